"""Every so many-th of the near keys."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Band, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["Dilated"]


@register("pattern", "dilated")
class Dilated(Pattern):
    """A query at i sees i + m d for |m| <= window, d the dilation; causal: m <= 0 (Beltagy et al. 2020, 3.1).

    As many keys as the plain window, d times as far. Queries that differ by no multiple of d share no key, so
    the paper combines it with plain windows in other layers or heads; see ``attention_by_layer``.

    Args:
        window: how many positions to each side are seen.
        dilation: the distance between two of them; 1 = the plain window.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={
            "cross_attention": "a window follows the query's own position, which means nothing in another sequence"
        },
    )
    sparse = True

    def __init__(
        self, place: HeadPlace, *, window: Annotated[int, Ge(0)] = 16, dilation: Annotated[int, Ge(1)] = 2
    ) -> None:
        super().__init__(place)
        self.window, self.dilation = window, dilation
        self.reach = window * dilation

    def extra_repr(self) -> str:
        return f"window={self.window}, dilation={self.dilation}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = query - key
        return (back.abs() <= self.window * self.dilation) & (back % self.dilation == 0)

    def pieces(self) -> tuple[Piece, ...]:
        far = self.window * self.dilation
        return (Band(far, far, self.dilation),)
