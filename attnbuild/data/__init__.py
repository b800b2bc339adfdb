"""Readers, tokenizers, encoded corpora and batches. Knows no task."""
