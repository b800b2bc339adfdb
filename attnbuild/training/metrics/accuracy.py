"""Accuracy from counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Accuracy"]


class Accuracy(Metric):
    """Share of tokens (or examples) that are right, from counts; NaN before the first."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, correct: Tensor | int, total: Tensor | int) -> None:
        """Add ``correct`` right ones of ``total``; padding is in neither."""
        self.correct += torch.as_tensor(correct).detach().to(self.correct)
        self.total += torch.as_tensor(total).detach().to(self.total)

    def compute(self) -> Tensor:
        """Between 0 and 1, fp64."""
        return self.correct.double() / self.total
