"""Metrics that need all examples at once: lists of tensors, gathered over the ranks."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics import Metric

__all__ = ["Gathered"]


class Gathered(Metric):
    """A metric with list states that any rank may leave empty.

    torchmetrics gathers tensors only, and for an empty list it sends a one-dimensional fp32 tensor: with states of
    another type or shape the ranks then disagree on how many bytes there are. Here each names its own empty tensor.
    """

    def empty_states(self) -> dict[str, Tensor]:
        """For each list state, what a rank without examples contributes."""
        raise NotImplementedError

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all ranks, where there are several."""
        for name, empty in self.empty_states().items():
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [empty.to(self.device)])
        super().sync(*args, **kwargs)
