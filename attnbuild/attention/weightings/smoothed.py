"""Sigmoids, normalised."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.registry import register

__all__ = ["Smoothed"]


@register("weighting", "smoothed")
class Smoothed(Softmax):
    """sigmoid(e_j) / sum_k sigmoid(e_k): good keys share (Chorowski et al. 2015, section 2.3, "smoothing")."""

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        # exp(log sigmoid(e)): where every sigmoid underflows, their ratio is still right.
        return super().forward(F.logsigmoid(scores), allowed)
