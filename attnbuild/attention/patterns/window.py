"""The near keys."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Band, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["Window"]


@register("pattern", "window")
class Window(Pattern):
    """A query at i sees the keys j with |i - j| <= window; causal: i - window <= j <= i (Beltagy et al. 2020, 3.1).

    Args:
        window: how many positions to each side are seen.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={
            "cross_attention": "a window follows the query's own position, which means nothing in another sequence"
        },
    )

    sparse = True

    def __init__(self, place: HeadPlace, *, window: Annotated[int, Ge(0)] = 16) -> None:
        super().__init__(place)
        self.window = self.reach = window

    def extra_repr(self) -> str:
        return f"window={self.window}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= self.window

    def pieces(self) -> tuple[Piece, ...]:
        return (Band(self.window, self.window),)
