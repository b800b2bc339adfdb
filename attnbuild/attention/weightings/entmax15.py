"""Between softmax and sparsemax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnbuild.attention.weightings.projection import Projection, below_the_best
from attnbuild.registry import register

__all__ = ["Entmax15"]


@register("weighting", "entmax15")
class Entmax15(Projection):
    """[e/2 - t]^2 where positive, t such that the sum is 1: entmax with alpha 1.5 (Peters et al. 2019, section 3)."""

    def project(self, scores: Tensor) -> Tensor:
        weights = _Entmax15.apply(scores)
        assert isinstance(weights, Tensor)
        return weights


class _Entmax15(torch.autograd.Function):
    """The paper's exact algorithm, by sorting; only the weights are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        scores = below_the_best(scores / 2)
        ordered = scores.sort(dim=-1, descending=True).values
        rank = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype, device=scores.device)
        # The threshold if the k largest were the support, a root of sum (e_j - t)^2 = 1 over them.
        mean = ordered.cumsum(dim=-1) / rank
        spread = rank * (ordered.square().cumsum(dim=-1) / rank - mean.square())
        threshold = mean - ((1 - spread) / rank).clamp(min=0).sqrt()
        # What was cut at -1 is never in the support; rounding alone could let it in.
        inside = (threshold <= ordered) & (ordered > -1)
        size = inside.sum(dim=-1, keepdim=True).clamp(min=1)
        roots = (scores - threshold.gather(-1, size - 1)).clamp(min=0)
        # One step of Newton's: in long rows of fp32 the closed form is off by as much as 1e-3.
        step = (roots.square().sum(dim=-1, keepdim=True) - 1) / (2 * roots.sum(dim=-1, keepdim=True))
        weights = torch.where(roots > 0, roots - step, roots).clamp(min=0).square()
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The paper's Jacobian: with s = sqrt(p), the gradient is s * (g - sum(s g) / sum(s))."""
        (weights,) = ctx.saved_tensors
        slope = weights.sqrt()
        gradient = gradients[0] * slope
        return gradient - slope * (gradient.sum(dim=-1, keepdim=True) / slope.sum(dim=-1, keepdim=True))
