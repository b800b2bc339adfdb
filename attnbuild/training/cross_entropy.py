"""Cross-entropy over a large vocabulary, without copies of the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["token_losses"]

#: Logits that are looked at together, by kind of device: on the CPU as many as its caches hold.
_AT_ONCE = {"cpu": 1 << 21}
_AT_ONCE_ELSEWHERE = 1 << 26


def token_losses(logits: Tensor, targets: Tensor, *, ignore: int, smoothing: float = 0.0) -> Tensor:
    """Minus the log-probability of each target, label-smoothed (Szegedy et al. 2016, 7): what torch's gives.

    The mean over all classes takes the part of the uniform distribution: with x the logits of V classes and y the
    target, log sum exp(x) - (1 - smoothing) x_y - smoothing mean(x). The gradient is written over the logits, chunk by
    chunk, where torch makes four tensors of their size: the logits are spent after ``backward``.

    Args:
        logits: (N, V), which nothing else needs after ``backward``.
        targets: (N,) classes.
        ignore: the class whose loss is 0.
        smoothing: share of the uniform distribution in what is aimed at.

    Returns:
        (N,), in single precision at least.
    """
    losses: Tensor = _TokenLosses.apply(logits, targets, ignore, smoothing)
    return losses


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ignore: int, smoothing: float) -> Tensor:
        losses = logits.new_empty(len(logits), dtype=_precise(logits))
        totals = torch.empty_like(losses)
        for rows in _chunks(logits):
            scores = logits[rows].to(losses.dtype)
            totals[rows] = scores.logsumexp(dim=-1)
            aimed_at = scores.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
            losses[rows] = totals[rows] - (1 - smoothing) * aimed_at
            if smoothing:
                losses[rows] -= smoothing * scores.mean(dim=-1)
        ctx.save_for_backward(logits, targets, totals)
        ctx.ignore, ctx.smoothing, ctx.spent = ignore, smoothing, False
        return losses.masked_fill(targets == ignore, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.spent:
            raise RuntimeError("the gradient took the place of the logits: backward goes through token_losses once")
        ctx.spent = True
        logits, targets, totals = ctx.saved_tensors
        gradient = gradients[0].masked_fill(targets == ctx.ignore, 0.0)
        for rows in _chunks(logits):
            shares = torch.exp(logits[rows].to(totals.dtype) - totals[rows].unsqueeze(1))
            if ctx.smoothing:
                shares -= ctx.smoothing / logits.shape[1]
            aimed_at = shares.new_full((len(shares), 1), ctx.smoothing - 1)
            shares.scatter_add_(1, targets[rows].unsqueeze(1), aimed_at)
            logits[rows] = shares.mul_(gradient[rows].unsqueeze(1)).to(logits.dtype)
        return logits, None, None, None


def _precise(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Rows that are looked at together."""
    rows = max(1, _AT_ONCE.get(logits.device.type, _AT_ONCE_ELSEWHERE) // max(1, logits.shape[1]))
    return (slice(first, first + rows) for first in range(0, len(logits), rows))
