"""The last keys, and every so many-th before."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.factorized import Factorize, Factorized
from attnbuild.attention.patterns.pieces import ALL, Band, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["Strided"]


@register("pattern", "strided")
class Strided(Factorized):
    """The first pattern sees i - l <= j <= i, the second (i - j) mod l = 0, l the stride (Child et al. 2019, 4.3).

    The paper's is causal. Where it is not causal, the form is ours: |i - j| <= l, and (i - j) mod l = 0 to both sides.

    Args:
        stride: l; how far the first pattern sees back, and the step of the second.
        factorize: who sees which pattern: heads = even heads the first and odd the second, layers = even layers
            the first and odd the second, merged = every head both.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={
            "cross_attention": "strides are counted from the query's own position, which means nothing in "
            "another sequence"
        },
    )

    def __init__(self, place: HeadPlace, *, stride: Annotated[int, Ge(1)] = 16, factorize: Factorize = "heads") -> None:
        super().__init__(place, factorize)
        self.stride = stride
        self.reach = stride if factorize == "layers" and not self.takes_second else None

    def extra_repr(self) -> str:
        return f"stride={self.stride}, factorize={self.factorize}"

    def first(self, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= self.stride

    def second(self, query: Tensor, key: Tensor) -> Tensor:
        return (query - key) % self.stride == 0

    def both_pieces(self) -> tuple[Piece, Piece]:
        return Band(self.stride, self.stride), Band(ALL, ALL, self.stride)
