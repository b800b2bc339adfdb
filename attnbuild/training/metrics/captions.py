"""The metrics that captions are compared by (Chen et al. 2015, "Microsoft COCO Captions")."""

from __future__ import annotations

from torchmetrics import Metric

from attnbuild.training.metrics.bleu import CaptionBLEU
from attnbuild.training.metrics.cider import CIDEr
from attnbuild.training.metrics.rouge_l import RougeL

__all__ = ["caption_metrics"]


def caption_metrics() -> dict[str, Metric]:
    """``bleu1`` to ``bleu4``, ``rouge_l`` and ``cider``, all on the same words (:func:`caption_tokens`)."""
    bleus: dict[str, Metric] = {f"bleu{order}": CaptionBLEU(order) for order in range(1, 5)}
    return bleus | {"rouge_l": RougeL(), "cider": CIDEr()}
