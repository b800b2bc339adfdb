"""How scores become weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["Softmax", "Weighting"]


class Weighting(nn.Module):
    """Base of weightings."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        """Scores (B, H, N, S) and the keys allowed (broadcastable, None = all) -> weights (B, H, N, S).

        A row without any allowed key gives weights 0.
        """
        raise NotImplementedError


@register("weighting", "softmax")
class Softmax(Weighting):
    """exp(e_j) / sum_k exp(e_k) over the allowed keys."""

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        if allowed is None:
            return scores.softmax(dim=-1)
        # The lowest finite number, not -inf: a row of -inf would be NaN, forward and backward.
        masked = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        return masked.softmax(dim=-1).masked_fill(~allowed, 0.0)
