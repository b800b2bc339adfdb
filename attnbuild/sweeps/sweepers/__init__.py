"""Sweepers: which combinations of a space become jobs."""
