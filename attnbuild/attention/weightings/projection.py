"""What weightings share that project the scores onto the simplex: exact zeros, and a gradient in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from attnbuild.attention.weightings.base import Weighting

__all__ = ["Projection", "below_the_best"]


class Projection(Weighting):
    """Base of weightings that are a function of the scores of one row, invariant to a constant added to them."""

    def project(self, scores: Tensor) -> Tensor:
        """Scores (..., S), finite -> weights (..., S) that sum to 1."""
        raise NotImplementedError

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        if allowed is None:
            return self.project(scores)
        masked = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return self.project(masked).masked_fill(~allowed, 0.0)


def below_the_best(scores: Tensor) -> Tensor:
    """Scores less the row's largest, cut at -1: what is a whole unit below the best has no weight."""
    return (scores - scores.amax(dim=-1, keepdim=True)).clamp(min=-1.0)
