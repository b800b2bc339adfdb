"""Exponentials, normalised."""

from __future__ import annotations

import torch
from torch import Tensor

from attnbuild.attention.weightings.base import Weighting
from attnbuild.registry import register

__all__ = ["Softmax"]


@register("weighting", "softmax")
class Softmax(Weighting):
    """exp(e_j) / sum_k exp(e_k) over the allowed keys."""

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        if allowed is None:
            return scores.softmax(dim=-1)
        # The lowest finite number, not -inf: a row of -inf would be NaN, forward and backward.
        masked = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return masked.softmax(dim=-1).masked_fill(~allowed, 0.0)
