"""Scores, weights and values written out: any score, any weighting, and the weights to look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild.attention.scores.base import Score
from attnbuild.attention.weightings.base import Weighting

__all__ = ["attend"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    score: Score,
    weighting: Weighting,
    allowed: Tensor | None,
    bias: Tensor | None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention by its definition.

    Args:
        query: (B, H, N, D), transformed by the score.
        key: (B, K, S, D), transformed by the score; K divides H.
        value: (B, K, S, Dv).
        score: rates the transformed pair.
        weighting: turns scores into weights.
        allowed: bool, broadcastable to (B, H, N, S), True = may be seen; None = all.
        bias: added to the scores, broadcastable; None = nothing.
        dropout: probability of dropping a weight; 0 outside training.

    Returns:
        values (B, H, N, Dv) and weights (B, H, N, S), the latter before dropout.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = score.rate(query, key)
    if bias is not None:
        scores = scores + bias
    # Half precision sums of exponentials lose weights; fp32 costs little here.
    precision = torch.promote_types(scores.dtype, torch.float32)
    weights = weighting(scores.to(precision), allowed).to(value.dtype)
    return F.dropout(weights, dropout) @ value, weights
