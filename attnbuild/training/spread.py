"""Which examples of a split stand for it."""

from __future__ import annotations

__all__ = ["spread"]


def spread(count: int, total: int) -> list[int]:
    """Up to ``count`` positions, evenly spaced among ``total``: data that is sorted by label shows several labels."""
    count = min(count, total)
    return [place * total // count for place in range(count)]
