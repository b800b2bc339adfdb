"""The options of the block around every core: how many heads, and whether they are projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

__all__ = ["Heads"]


@dataclass(frozen=True, kw_only=True)
class Heads:
    """What is done with queries, keys and values before and after the core.

    Args:
        heads: number of query heads.
        kv_heads: number of key and value heads, shared by groups of query heads; null = heads.
        projections: all = query, key, value and output are projected; none = raw, the score owns its matrices.
        bias: whether the projections have one.
    """

    heads: Annotated[int, Ge(1)] = 4
    kv_heads: Annotated[int, Ge(1)] | None = None
    projections: Literal["all", "none"] = "all"
    bias: bool = True
