"""The same function, several ways to run it; the reference is what the others are tested against."""
