"""Readers of examples: one format a file."""
