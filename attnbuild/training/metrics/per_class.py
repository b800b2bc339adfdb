"""Precision, recall and F1 of each label."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_stat_scores, multilabel_stat_scores

__all__ = ["ClassScores", "PerClass"]


class ClassScores(NamedTuple):
    """How well each label is found; a share of nothing is 0.

    Attributes:
        precision: (labels,) of the examples that were given the label, how many have it.
        recall: (labels,) of the examples that have the label, how many were given it.
        f1: (labels,) their harmonic mean.
        support: (labels,) how many examples have the label.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor


class PerClass(Metric):
    """The scores of each label, from counts.

    Args:
        labels: how many there are.
        multi_label: an example may have several, or none.
    """

    is_differentiable = False
    full_state_update = False

    counts: Tensor

    def __init__(self, labels: int, multi_label: bool = False) -> None:
        super().__init__()
        self.labels = labels
        self.multi_label = multi_label
        # Of each label: true positives, false positives, true negatives, false negatives, support.
        self.add_state("counts", torch.zeros(labels, 5, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, target: Tensor) -> None:
        """Add probabilities (B, labels), and the right labels (B,), or 0 and 1 (B, labels) where they are several."""
        count = multilabel_stat_scores if self.multi_label else multiclass_stat_scores
        self.counts += count(probabilities, target, self.labels, average=None)

    def compute(self) -> ClassScores:
        """The scores, fp64, and the support, int64."""
        right, wrong, _, missed, support = self.counts.double().unbind(dim=1)
        precision, recall, f1 = (
            right.div(of).nan_to_num(nan=0.0) for of in (right + wrong, support, right + (wrong + missed) / 2)
        )
        return ClassScores(precision, recall, f1, support.long())
