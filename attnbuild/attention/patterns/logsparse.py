"""Keys at distances of powers of two."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Band, Diagonals, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["LogSparse"]


@register("pattern", "logsparse")
class LogSparse(Pattern):
    """A query at i sees itself and i - 1, i - 2, i - 4, i - 8, ...: O(log N) keys (Li et al. 2019, 4.2).

    The local range is the paper's local attention, which it adds to this (4.2); its restart attention is left
    out. The paper's is causal; where it is not causal, the form is ours: the same distances to both sides.

    Args:
        local: how many positions next to the query are all seen, besides the powers of two.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={
            "cross_attention": "distances are counted from the query's own position, which means nothing in "
            "another sequence"
        },
    )

    sparse = True

    def __init__(self, place: HeadPlace, *, local: Annotated[int, Ge(0)] = 4) -> None:
        super().__init__(place)
        self.local = local

    def extra_repr(self) -> str:
        return f"local={self.local}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.near(query, key) | self.far(query, key)

    def near(self, query: Tensor, key: Tensor) -> Tensor:
        """The local range, the query itself among it."""
        return (query - key).abs() <= self.local

    def far(self, query: Tensor, key: Tensor) -> Tensor:
        """Distances of one bit: 1, 2, 4, ... (and 0, which has none)."""
        distance = (query - key).abs()
        return distance & (distance - 1) == 0

    def pieces(self) -> tuple[Piece, ...]:
        return Band(self.local, self.local), Diagonals()
