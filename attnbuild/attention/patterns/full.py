"""No limit."""

from __future__ import annotations

import torch
from torch import Tensor

from attnbuild.attention.patterns.base import Pattern
from attnbuild.registry import register

__all__ = ["Full"]


@register("pattern", "full")
class Full(Pattern):
    """Every query may see every key."""

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=query.device)
