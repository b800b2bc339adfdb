"""How a query rates a key.

A dot-like score is ``scale * query(q) . key(k)``; the fast backends and rotary positions build on
that form. Any other score rates the transformed pair itself. Keys are transformed once a sentence.

Shape letters: B batch, H heads, K key heads, N queries, S keys, D width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.products import rated
from attnbuild.errors import ConfigError

__all__ = ["Score", "require_equal_widths"]


class Score(nn.Module):
    """Base of scores.

    Attributes:
        dot_like: the score is ``scale * query(q) . key(k)``.
        scale: the factor of a dot-like score.
        reads_key: whether the key matters; where it does not, no key is projected.
        max_len: the most keys of a score that has an option of this name; None = any. The block refuses more.
    """

    dot_like: ClassVar[bool] = True
    scale: float = 1.0
    reads_key: ClassVar[bool] = True
    max_len: int | None = None

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def query(self, query: Tensor) -> Tensor:
        """Transform queries, (B, H, N, D) -> (B, H, N, D')."""
        return query

    def key(self, key: Tensor) -> Tensor:
        """Transform keys, (B, K, S, D) -> (B, K, S, D')."""
        return key

    def rate(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores of transformed queries and keys: (B, H, N, D'), (B, H, S, D') -> (B, H, N, S)."""
        if query.dtype is torch.float16:  # ends at 65504, which the product would reach before the score does
            return rated(query * self.scale, key)
        return rated(query, key) * self.scale


def require_equal_widths(place: HeadPlace, score: str) -> None:
    if place.query_dim != place.key_dim:
        raise ConfigError(
            f"score {score!r} multiplies query and key, so their widths must be equal; they are "
            f"{place.query_dim} and {place.key_dim}: set equal dims, or score=general or projections=all",
            f"{place.name}.score",
        )
