"""Decoders turn targets and memory into logits, all at once or token by token."""
