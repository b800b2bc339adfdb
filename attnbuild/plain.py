"""Plain values from files of others: what they may be, and how much they may unfold to.

YAML's aliases and pickle's memo let a file of one kilobyte name the same list a billion times. In memory that is
small, as the list is there once, but whoever walks, copies or writes it meets it a billion times.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["DEEPEST", "require_plain", "weight"]

#: Levels of nesting. Configs have some 5, a checkpoint's loops some 10; Python's own recursion ends at 1000.
DEEPEST = 64

_LEAVES = (str, int, float, bool, type(None))
_MAPPINGS = (dict, OrderedDict)
_SEQUENCES = (list, tuple)


def weight(leaf: Any) -> int:
    """What a leaf counts: a text of any length is one value to name, but not to copy."""
    return 1 + len(leaf) // 128 if isinstance(leaf, str) else 1


def require_plain(value: Any, *, most: int, leaves: tuple[type, ...] = ()) -> None:
    """Refuse what is more than plain values, nested too deeply, or too large when every reference is followed.

    Args:
        value: as a file gave it.
        most: values that it may unfold to, a long text being several.
        leaves: types that count as plain beside text, numbers, true, false and null.

    Raises:
        ValueError: with the reason.
    """
    unfolded: dict[int, int] = {}
    known = {*_LEAVES, *leaves}

    def count(node: Any, depth: int) -> int:
        if type(node) in known:
            return weight(node)
        if type(node) not in (*_MAPPINGS, *_SEQUENCES):
            raise ValueError(f"it holds {type(node).__name__}, which is no plain value")
        if depth == DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels, or holds itself")
        if id(node) not in unfolded:
            inner = list(node)
            if isinstance(node, dict):
                if not known.issuperset(map(type, inner)):
                    raise ValueError("it has a key that is no plain value")
                inner = list(dict.values(node))
            unfolded[id(node)] = 1 + sum(count(item, depth + 1) for item in inner)
        if unfolded[id(node)] > most:
            raise ValueError(f"it unfolds to more than {most:,} values")
        return unfolded[id(node)]

    count(value, 0)
