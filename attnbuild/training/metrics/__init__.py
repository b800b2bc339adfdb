"""Metrics whose states add up exactly over any number of processes and batches, one a file.

Scores of text are on the scale of printed tables (0 to 100, CIDEr-D to 1000); shares of examples are 0 to 1.
The names are loaded when first used: a task that needs one metric does not import what the others need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbuild.training.metrics.accuracy import Accuracy
    from attnbuild.training.metrics.bleu import CaptionBLEU, SacreBLEU
    from attnbuild.training.metrics.captions import caption_metrics
    from attnbuild.training.metrics.chrf import ChrF
    from attnbuild.training.metrics.cider import CIDEr
    from attnbuild.training.metrics.classification import classification_metrics
    from attnbuild.training.metrics.confusion import ConfusionMatrix
    from attnbuild.training.metrics.per_class import ClassScores, PerClass
    from attnbuild.training.metrics.rouge_l import RougeL
    from attnbuild.training.metrics.tokens import caption_tokens
    from attnbuild.training.metrics.weighted_mean import WeightedMean

__all__ = [
    "Accuracy",
    "CIDEr",
    "CaptionBLEU",
    "ChrF",
    "ClassScores",
    "ConfusionMatrix",
    "PerClass",
    "RougeL",
    "SacreBLEU",
    "WeightedMean",
    "caption_metrics",
    "caption_tokens",
    "classification_metrics",
]

_HOMES = {
    "Accuracy": "accuracy",
    "CIDEr": "cider",
    "CaptionBLEU": "bleu",
    "ChrF": "chrf",
    "ClassScores": "per_class",
    "ConfusionMatrix": "confusion",
    "PerClass": "per_class",
    "RougeL": "rouge_l",
    "SacreBLEU": "bleu",
    "WeightedMean": "weighted_mean",
    "caption_metrics": "captions",
    "caption_tokens": "tokens",
    "classification_metrics": "classification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
