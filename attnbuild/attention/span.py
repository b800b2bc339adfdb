"""Consecutive positions of queries or keys."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Span"]


class Span(NamedTuple):
    """Positions from ``start`` to before ``stop``: numbers, of which a tensor is made only where one is asked for.

    Not a ``range``: while a model is exported its lengths are symbols, which a range would fix.
    """

    start: int
    stop: int

    def on(self, device: torch.device) -> Tensor:
        """As a tensor (N,)."""
        return torch.arange(self.start, self.stop, device=device)
