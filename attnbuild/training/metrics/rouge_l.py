"""ROUGE-L: the longest common subsequence of words (Lin 2004)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from attnbuild.training.metrics.references import References, answers_of
from attnbuild.training.metrics.tokens import caption_tokens

__all__ = ["RougeL"]

#: How much more recall weighs than precision, as in coco-caption.
_BETA = 1.2


class RougeL(Metric):
    """ROUGE-L (Lin 2004, section 3.1) as coco-caption has it, times 100.

    With P and R the highest precision and the highest recall of the longest common subsequence over the references,
    F = (1 + β²) P R / (R + β² P), β = 1.2, is averaged over the images.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, hypotheses: Sequence[str], references: References) -> None:
        """Add captions.

        Args:
            hypotheses: n captions as plain text.
            references: n right answers, or n lists of right answers; lists may differ in length.

        Raises:
            ValueError: the two differ in number, or a caption has no right answer.
        """
        scores = [
            _f_score(caption_tokens(hypothesis), [caption_tokens(one) for one in answer])
            for hypothesis, answer in zip(hypotheses, answers_of(hypotheses, references), strict=True)
        ]
        self.total += math.fsum(scores)
        self.images += len(scores)

    def compute(self) -> Tensor:
        """The mean over the images, fp64; 0 where there are none."""
        return 100.0 * self.total / self.images.clamp(min=1)

    @property
    def signature(self) -> str:
        """How the score was made."""
        return f"rouge-l|beta:{_BETA:g}|refs:max|tok:caption|stem:no|times:100"


def _f_score(caption: list[str], references: list[list[str]]) -> float:
    common = [_common(caption, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(caption)
    recall = max(length / len(reference) for length, reference in zip(common, references, strict=True) if reference)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence."""
    above = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for place, other in enumerate(second):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
        above = row
    return above[-1]
