"""Which keys a query may see.

A pattern is a predicate ``mask_mod(head, query, key)`` over positions. It never depends on the padded
length; causality and padding are added by whoever runs it. From this one definition come the dense
mask of the reference and FlexAttention's block mask.

A sparse pattern also says where its keys are: as ``pieces``, a few simple shapes (a band, blocks, columns, ...)
whose union is the predicate. From them the backend ``blocksparse`` computes only what is seen. A key that an
earlier piece has shown is left out of the later ones, so pieces may overlap.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.pieces import Piece
from attnbuild.attention.place import HeadPlace

__all__ = ["Pattern"]


class Pattern(nn.Module):
    """Base of patterns.

    Attributes:
        reach: how many positions back a causal query may see; None = all.
        sparse: whether it has pieces, so that its cost is that of the keys seen.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    sparse: ClassVar[bool] = False
    reach: int | None = None

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may see a key: broadcastable position tensors -> bool tensor."""
        raise NotImplementedError

    def pieces(self) -> tuple[Piece, ...]:
        """Shapes whose union is the predicate, for patterns that say ``sparse``."""
        raise NotImplementedError
