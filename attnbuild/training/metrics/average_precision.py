"""Mean average precision: are the examples of a label ranked before the others?"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from attnbuild.training.metrics.gathered import Gathered

__all__ = ["MeanAveragePrecision"]


class MeanAveragePrecision(Gathered):
    """The area under precision over recall, at every threshold, averaged over the labels that any example has.

    torchmetrics' own mean counts the other labels as 0, whatever the model says.

    Args:
        labels: how many there are.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    probabilities: list[Tensor] | Tensor
    target: list[Tensor] | Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("target", [], dist_reduce_fx="cat")

    def empty_states(self) -> dict[str, Tensor]:
        shape = (0, self.labels)
        return {"probabilities": torch.empty(shape), "target": torch.empty(shape, dtype=torch.uint8)}

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Add probabilities (B, labels), and 1 where an example has the label, else 0, (B, labels)."""
        assert isinstance(self.probabilities, list)
        assert isinstance(self.target, list)
        # In one type on all ranks, since what is gathered must be.
        self.probabilities.append(probabilities.detach().float())
        self.target.append(target.to(torch.uint8))

    def compute(self) -> Tensor:
        """Between 0 and 1; NaN where no example has any label."""
        probabilities, target = dim_zero_cat(self.probabilities), dim_zero_cat(self.target)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No positive samples found in target")
            precisions = multilabel_average_precision(probabilities, target.int(), self.labels, average="none")
        return precisions[(target > 0).any(dim=0)].mean()
