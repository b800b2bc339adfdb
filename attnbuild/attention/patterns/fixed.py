"""The keys of one's own block, and the summary positions at the end of every block."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.factorized import Factorize, Factorized
from attnbuild.attention.patterns.pieces import Blocks, Columns, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Fixed"]


@register("pattern", "fixed")
class Fixed(Factorized):
    """The first pattern sees floor(j/l) = floor(i/l), the second j mod l >= l - c (Child et al. 2019, 4.3).

    The paper's is causal: there the second pattern shows nothing to the first l - c positions, whose heads give 0
    for it. Where it is not causal, the form is ours: the same two sets, without j <= i.

    Args:
        stride: l, the length of a block.
        summary: c, how many positions at the end of each block are seen by all; at most the stride.
        factorize: who sees which pattern: heads = even heads the first and odd the second, layers = even layers
            the first and odd the second, merged = every head both.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={"cross_attention": "its blocks are shared by query and key, which stand in different sequences there"},
    )

    def __init__(
        self,
        place: HeadPlace,
        *,
        stride: Annotated[int, Ge(1)] = 16,
        summary: Annotated[int, Ge(1)] = 2,
        factorize: Factorize = "heads",
    ) -> None:
        super().__init__(place, factorize)
        if summary > stride:
            raise ConfigError(
                f"{summary} summary positions do not fit into a block of {stride}: set it to {stride} or less",
                f"{place.name}.summary",
            )
        self.stride, self.summary = stride, summary
        self.reach = stride - 1 if factorize == "layers" and not self.takes_second else None

    def extra_repr(self) -> str:
        return f"stride={self.stride}, summary={self.summary}, factorize={self.factorize}"

    def first(self, query: Tensor, key: Tensor) -> Tensor:
        return query // self.stride == key // self.stride

    def second(self, query: Tensor, key: Tensor) -> Tensor:
        # Whatever the query: the shape is still that of the pair.
        return (key % self.stride >= self.stride - self.summary) & (query >= 0)

    def both_pieces(self) -> tuple[Piece, Piece]:
        return Blocks(self.stride), Columns(self.summary, self.stride)
