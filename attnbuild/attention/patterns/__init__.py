"""Which keys a query may see. One a file."""
