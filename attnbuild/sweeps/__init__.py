"""Sweeps: many runs from one command, each a process of its own, none of them lost."""
