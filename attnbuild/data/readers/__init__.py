"""Readers of sentence pairs: one format a file."""
