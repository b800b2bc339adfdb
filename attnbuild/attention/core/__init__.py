"""The cores: one family of attention a file."""
