"""Cross-entropy over a large vocabulary, without copies of the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["token_losses"]

#: Logits that are worked on together, by kind of device: on the CPU as many as the cache next to a core holds.
_AT_ONCE = {"cpu": 1 << 18}
_AT_ONCE_ELSEWHERE = 1 << 26


def token_losses(logits: Tensor, targets: Tensor, *, ignore: int, smoothing: float = 0.0) -> Tensor:
    """Minus the log-probability of each target, label-smoothed (Szegedy et al. 2016, 7): what torch's gives.

    The mean over all classes takes the part of the uniform distribution: with x the logits of V classes and y the
    target, log sum exp(x) - (1 - smoothing) x_y - smoothing mean(x). Where a gradient is wanted it is written over
    the logits at once, chunk by chunk, where torch makes four tensors of their size and takes each exponential twice.

    Args:
        logits: (N, V), spent by the call where they have a gradient.
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
        precise = torch.promote_types(logits.dtype, torch.float32)
        losses = logits.new_empty(len(logits), dtype=precise)
        trains = ctx.needs_input_grad[0]
        for rows in _chunks(logits):
            scores = logits[rows].to(precise, copy=not trains)
            losses[rows] = _write_gradient(scores, targets[rows].unsqueeze(1), smoothing)
            if trains and precise != logits.dtype:
                logits[rows] = scores
        ctx.save_for_backward(logits, targets)
        ctx.ignore, ctx.spent = ignore, False
        return losses.masked_fill(targets == ignore, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.spent:
            raise RuntimeError("the gradient took the place of the logits: backward goes through token_losses once")
        ctx.spent = True
        gradient, targets = ctx.saved_tensors
        outer = gradients[0].masked_fill(targets == ctx.ignore, 0.0).unsqueeze(1)
        return gradient.mul_(outer), None, None, None


def _write_gradient(scores: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The losses (N,) of scores (N, V) and targets (N, 1); the scores become their gradient."""
    aimed_at = (1 - smoothing) * scores.gather(1, targets)
    if smoothing:
        aimed_at += smoothing * scores.mean(dim=1, keepdim=True)
    highest = scores.amax(dim=1, keepdim=True)
    scores.sub_(highest).exp_()
    total = scores.sum(dim=1, keepdim=True)
    scores.div_(total)
    if smoothing:
        scores.sub_(smoothing / scores.shape[1])
    scores.scatter_add_(1, targets, scores.new_full(targets.shape, smoothing - 1))
    return (highest + total.log() - aimed_at).squeeze(1)


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Rows that are worked on together."""
    rows = max(1, _AT_ONCE.get(logits.device.type, _AT_ONCE_ELSEWHERE) // max(1, logits.shape[1]))
    return (slice(first, first + rows) for first in range(0, len(logits), rows))
