"""The metrics of classifiers, from probabilities: torchmetrics' own, under the names that runs report."""

from __future__ import annotations

from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from attnbuild.training.metrics.average_precision import MeanAveragePrecision
from attnbuild.training.metrics.calibration import CalibrationError, DecisionCalibrationError

__all__ = ["classification_metrics"]


def classification_metrics(labels: int, multi_label: bool, top: int = 5) -> dict[str, Metric]:
    """Metrics with one value each, between 0 and 1.

    They take ``update(probabilities, target)`` with probabilities (B, labels) in [0, 1] (torchmetrics takes anything
    beyond for logits) and the target as integers: (B,) one label each, or (B, labels) of 0 and 1.

    Args:
        labels: how many there are.
        multi_label: an example may have several, or none; a label is predicted from a probability above 1/2 on.
        top: k of top-k: an example counts if its label is among so many of the likeliest.

    Returns:
        One label each: ``accuracy``, ``topK`` (where there are more than k labels), ``f1_macro``
        (labels that were neither right nor predicted are left out of the mean), ``calibration_error``. Several:
        ``f1_micro``, ``f1_macro``, ``map``, ``exact_match``, ``calibration_error`` (of all decisions).

    Raises:
        ValueError: fewer than two labels.
    """
    if labels < 2:
        raise ValueError(f"classification takes two labels or more, not {labels}")
    if multi_label:
        return {
            "f1_micro": MultilabelF1Score(labels, average="micro"),
            "f1_macro": MultilabelF1Score(labels, average="macro"),
            "map": MeanAveragePrecision(labels),
            "exact_match": MultilabelExactMatch(labels),
            "calibration_error": DecisionCalibrationError(),
        }
    likeliest = {f"top{top}": MulticlassAccuracy(labels, top_k=top, average="micro")} if labels > top else {}
    return {
        "accuracy": MulticlassAccuracy(labels, average="micro"),
        **likeliest,
        "f1_macro": MulticlassF1Score(labels, average="macro"),
        "calibration_error": CalibrationError(labels),
    }
