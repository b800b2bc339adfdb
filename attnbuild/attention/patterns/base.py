"""Which keys a query may see.

A pattern is a predicate ``mask_mod(head, query, key)`` over positions. It never depends on the padded
length; causality and padding are added by whoever runs it. From this one definition come the dense
mask of the reference and every faster way to run the pattern.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace

__all__ = ["Pattern"]


class Pattern(nn.Module):
    """Base of patterns.

    Attributes:
        reach: how many positions back a causal query may see; None = all.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    reach: int | None = None

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may see a key: broadcastable position tensors -> bool tensor."""
        raise NotImplementedError
