"""The keys of one's own block."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Blocks, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["BlockLocal"]


@register("pattern", "block_local")
class BlockLocal(Pattern):
    """A query sees the keys of its own block, floor(j / b) = floor(i / b) (Liu et al. 2018, 4.2.4, local attention).

    Nothing passes from block to block: other layers, or a feed-forward of wider sight, must do that.

    Args:
        block_size: positions in a block.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={"cross_attention": "its blocks are shared by query and key, which stand in different sequences there"},
    )
    sparse = True

    def __init__(self, place: HeadPlace, *, block_size: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__(place)
        self.block_size = block_size
        self.reach = block_size - 1

    def extra_repr(self) -> str:
        return f"block_size={self.block_size}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query // self.block_size == key // self.block_size

    def pieces(self) -> tuple[Piece, ...]:
        return (Blocks(self.block_size),)
