"""Which label is taken for which."""

from __future__ import annotations

from torchmetrics.classification import MulticlassConfusionMatrix

__all__ = ["ConfusionMatrix"]


class ConfusionMatrix(MulticlassConfusionMatrix):
    """Counts (labels, labels): row the right label, column the predicted one.

    Its ``update`` takes probabilities (B, labels) and the right labels (B,).

    Args:
        labels: how many there are.
    """

    def __init__(self, labels: int) -> None:
        super().__init__(num_classes=labels)
