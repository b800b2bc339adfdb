"""How a query rates a key. One a file."""
