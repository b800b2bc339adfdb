"""Which keys a query may see.

A pattern is a predicate ``mask_mod(head, query, key)`` over positions. It never depends on the padded
length; causality and padding are added by whoever runs it. From this one definition come the dense
mask of the reference and every faster way to run the pattern.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["Full", "Pattern", "Window"]


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


@register("pattern", "full")
class Full(Pattern):
    """Every query may see every key."""

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=query.device)


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

    def __init__(self, place: HeadPlace, *, window: Annotated[int, Ge(0)] = 16) -> None:
        super().__init__(place)
        self.window = self.reach = window

    def extra_repr(self) -> str:
        return f"window={self.window}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= self.window
