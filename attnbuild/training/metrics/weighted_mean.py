"""A mean from sums."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["WeightedMean"]


class WeightedMean(Metric):
    """A mean from sums, such as the loss of all target tokens; NaN before the first."""

    is_differentiable = False
    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor | float, weight: Tensor | float) -> None:
        """Add a sum over things that weigh ``weight`` together (a loss summed over so many tokens)."""
        self.total += torch.as_tensor(total).detach().to(self.total)
        self.weight += torch.as_tensor(weight).detach().to(self.weight)

    def compute(self) -> Tensor:
        """The mean, fp64."""
        return self.total / self.weight
