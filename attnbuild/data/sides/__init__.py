"""The sides of an example: what is read, and what is answered."""
