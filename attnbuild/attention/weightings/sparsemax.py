"""The nearest point of the simplex."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnbuild.attention.weightings.projection import Projection, below_the_best
from attnbuild.registry import register

__all__ = ["Sparsemax"]


@register("weighting", "sparsemax")
class Sparsemax(Projection):
    """argmin over the simplex of |p - e|^2: far keys get exactly 0 (Martins and Astudillo 2016, section 2)."""

    def project(self, scores: Tensor) -> Tensor:
        weights = _Sparsemax.apply(scores)
        assert isinstance(weights, Tensor)
        return weights


class _Sparsemax(torch.autograd.Function):
    """Algorithm 1 of the paper; only the weights are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        scores = below_the_best(scores)
        ordered = scores.sort(dim=-1, descending=True).values
        # 1 + k e_(k) > sum of the k largest holds for a prefix: the support.
        excess = ordered.cumsum(dim=-1) - 1
        rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
        size = (rank * ordered > excess).sum(dim=-1, keepdim=True).clamp(min=1)
        threshold = excess.gather(-1, size - 1) / size
        weights = (scores - threshold).clamp(min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The paper's Jacobian: on the support the gradient less its mean there, elsewhere 0."""
        (weights,) = ctx.saved_tensors
        support = weights > 0
        gradient = gradients[0] * support
        mean = gradient.sum(dim=-1, keepdim=True) / support.sum(dim=-1, keepdim=True)
        return gradient - mean * support
