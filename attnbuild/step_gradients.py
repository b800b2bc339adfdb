"""The gradient of keys and values that many single queries read, made once for all of them.

A recurrent decoder asks with one query a step. Each step's gradient of the keys (and values) is as large as they are,
and autograd would make it and add it up step by step. Where it is an outer product, what it is made of is small: that
is kept until the last step is done, and then one matrix product makes the sum over all steps. Where it is not, it is
added up in place.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["mixed_by_step", "rated_additively_by_step", "rated_by_step", "read_by_steps"]


def read_by_steps(states: Tensor) -> Tensor:
    """Keys or values (B, H, S, D) as they are, ready for ``rated_by_step`` and ``mixed_by_step``."""
    learns = torch.is_grad_enabled() and states.requires_grad
    if not learns or states.device.type != "cpu" or torch.compiler.is_compiling():
        return states
    return _Read.apply(states)


def rated_by_step(query: Tensor, key: Tensor) -> Tensor | None:
    """query key': (B, H, 1, D), (B, H, S, D) -> (B, H, 1, S); None where the key is not from ``read_by_steps``."""
    left = _left_for(key, query)
    return None if left is None else _Rate.apply(query, key, left)


def rated_additively_by_step(query: Tensor, key: Tensor, vectors: Tensor) -> Tensor | None:
    """vectors' tanh(query + key): (B, H, 1, D), (B, H, S, D), (H, D, 1) -> (B, H, 1, S); None as in ``rated_by_step``.

    As operators of PyTorch it would go over numbers of the size of the keys about half as often again.
    """
    left = _left_for(key, query) if vectors.dtype == key.dtype else None
    return None if left is None else _RateAdditively.apply(query, key, vectors, left)


def mixed_by_step(weights: Tensor, value: Tensor) -> Tensor | None:
    """weights value: (B, H, 1, S), (B, H, S, E) -> (B, H, 1, E); None where the value is not from there."""
    left = _left_for(value, weights)
    return None if left is None else _Mix.apply(weights, value, left)


@dataclass
class _Left:
    """What steps leave for the gradient of the states that they read.

    Attributes:
        pairs: of a step, two factors (B, H, 1, S) and (B, H, 1, D) whose outer product is its gradient.
        rated: of all steps that rate additively, their sum (B, H, S, D) and what it has yet to be multiplied by,
            (H, 1, D); None where there was none yet.
    """

    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    rated: tuple[Tensor, Tensor] | None = None

    def add(self, slopes: Tensor, gradient: Tensor, channels: Tensor) -> None:
        """A step's (B, H, S, D), which is taken over, times (B, H, S, 1), times (H, 1, D), the same in all steps."""
        if self.rated is None:
            self.rated = slopes.mul_(gradient), channels
        else:
            self.rated[0].addcmul_(slopes, gradient)

    def taken(self) -> Tensor | None:
        """The gradient; the next backward pass begins anew."""
        gathered = None
        if self.rated is not None:
            sums, channels = self.rated
            gathered, self.rated = sums.mul_(channels), None
        if self.pairs:
            by_key, by_channel = (torch.cat(factors, dim=2) for factors in zip(*self.pairs, strict=True))
            self.pairs.clear()
            products = by_key.transpose(-2, -1) @ by_channel
            gathered = products if gathered is None else gathered.add_(products)
        return gathered


def _left_for(states: Tensor, asking: Tensor) -> _Left | None:
    """Where the gradient of these states is gathered, if they are read by such steps."""
    fits = asking.shape[:2] == states.shape[:2] and asking.dtype == states.dtype
    left: _Left | None = getattr(states.grad_fn, "left", None) if fits else None
    return left


def _as_given() -> AbstractContextManager[Any]:
    """Products in the precision of their factors, which autocast would lower: backward, nothing does."""
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()


class _Read(torch.autograd.Function):
    """The same states; backward, what the steps have left is made into their gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        ctx.left = _Left()
        ctx.set_materialize_grads(False)
        # Heads apart lie between each other in memory, and each product would copy them.
        return states.view_as(states) if states.is_contiguous() else states.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> Tensor | None:
        gathered: Tensor | None = ctx.left.taken()
        if gathered is None or gradient is None:
            return gradient if gathered is None else gathered
        return gathered + gradient


class _Rate(torch.autograd.Function):
    """(B, H, 1, D), (B, H, S, D) -> (B, H, 1, S)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, left: _Left) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.left = left
        with _as_given():
            return query @ key.transpose(-2, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        query, key = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.left.pairs.append((gradient, query))
        return (gradient @ key if ctx.needs_input_grad[0] else None), None, None


class _RateAdditively(torch.autograd.Function):
    """(B, H, 1, D), (B, H, S, D), (H, D, 1) -> (B, H, 1, S), by tanh(x) = 2 s(2 x) - 1 with the logistic s."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, vectors: Tensor, left: _Left) -> Tensor:
        logistic = torch.add(2 * query, key, alpha=2).sigmoid_()
        ctx.save_for_backward(logistic, vectors)
        ctx.left = left
        with _as_given():
            rates = torch.einsum("bhsd,hd->bhs", logistic, 2 * vectors.squeeze(-1))
        return rates.unsqueeze(2) - vectors.sum(dim=1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        logistic, vectors = ctx.saved_tensors
        of_vectors = None
        if ctx.needs_input_grad[2]:
            of_tanh = 2 * torch.einsum("bhsd,bhs->hd", logistic, gradient.squeeze(2)) - gradient.sum(dim=(0, 3))
            of_vectors = of_tanh.unsqueeze(-1)
        # d tanh(x) / dx = 4 s(2 x) (1 - s(2 x))
        slopes, channels = torch.addcmul(logistic, logistic, logistic, value=-1), 4 * vectors.transpose(-2, -1)
        of_query = channels * (gradient @ slopes) if ctx.needs_input_grad[0] else None
        ctx.left.add(slopes, gradient.transpose(-2, -1), channels)
        return of_query, None, of_vectors, None


class _Mix(torch.autograd.Function):
    """(B, H, 1, S), (B, H, S, E) -> (B, H, 1, E)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, left: _Left) -> Tensor:
        ctx.save_for_backward(weights, value)
        ctx.left = left
        with _as_given():
            return weights @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        weights, value = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.left.pairs.append((weights, gradient))
        of_weights = gradient @ value.transpose(-2, -1) if ctx.needs_input_grad[0] else None
        return of_weights, None, None
