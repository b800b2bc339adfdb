"""Scores, weights and values written out: any score, any weighting, and the weights to look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from attnbuild.attention.backends.base import Answer, Call, Need
from attnbuild.attention.products import mixed, per_head

__all__ = ["refusal", "run"]


def refusal(need: Need) -> str | None:
    """None: it computes everything."""
    return None


def run(call: Call) -> Answer:
    """Attention by its definition; the weights are those before dropout."""
    key, value = (per_head(states, call.query.shape[1]) for states in (call.key, call.value))
    scores = call.parts.score.rate(call.query, key)
    bias = call.bias()
    if bias is not None:
        scores = scores + bias
    # Half precision sums of exponentials lose weights; fp32 costs little here.
    precision = torch.promote_types(scores.dtype, torch.float32)
    weights = call.parts.weighting(scores.to(precision), call.allowed()).to(value.dtype)
    return Answer(mixed(F.dropout(weights, call.dropout), value), weights if call.need_weights else None)
