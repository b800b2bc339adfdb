"""How attention, cells and output of a recurrent decoder are joined, one paper a file."""
