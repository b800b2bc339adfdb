"""How scores become weights. One a file."""
