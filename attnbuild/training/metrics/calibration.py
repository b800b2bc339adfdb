"""Calibration: are predictions made with 80 % probability right in 80 % of the cases?"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from attnbuild.training.metrics.gathered import Gathered

__all__ = ["CalibrationError", "DecisionCalibrationError"]


class _Binned(Gathered):
    """What both keep: the probabilities given, and whether each was right."""

    def empty_states(self) -> dict[str, Tensor]:
        return {"confidences": torch.empty(0), "accuracies": torch.empty(0)}


class CalibrationError(_Binned, MulticlassCalibrationError):
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017), 0 to 1, from bins of equal width.

    Args:
        labels: how many there are.
        bins: into how many the probability of the likeliest label is cut.
    """

    def __init__(self, labels: int, bins: int = 15) -> None:
        super().__init__(num_classes=labels, n_bins=bins, norm="l1")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Add probabilities (B, labels), and the right labels (B,)."""
        # In fp32: bins are summed in the type of the probabilities, and bf16 counts no further than 256.
        super().update(probabilities.float(), target)


class DecisionCalibrationError(_Binned, BinaryCalibrationError):
    """The same where each label is decided by itself: of a probability of 30 %, 30 % of the labels should be right.

    Args:
        bins: into how many the probability of a label is cut.
    """

    def __init__(self, bins: int = 15) -> None:
        super().__init__(n_bins=bins, norm="l1")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Add probabilities (B, labels), and 0 and 1 (B, labels)."""
        super().update(probabilities.float().flatten(), target.flatten())
