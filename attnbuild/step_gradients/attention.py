"""Scores and values of one query a step, which leave what the gradients of keys and values are made of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.step_gradients.gathering import Left, left_for

__all__ = ["mixed_by_step", "rated_additively_by_step", "rated_by_step"]


def rated_by_step(query: Tensor, key: Tensor) -> Tensor | None:
    """query key': (B, H, 1, D), (B, H, S, D) -> (B, H, 1, S); None where the key is not from ``read_by_steps``."""
    left = _left_of_heads(key, query)
    return None if left is None else _Rate.apply(query, key, left)


def rated_additively_by_step(query: Tensor, key: Tensor, vectors: Tensor) -> Tensor | None:
    """vectors' tanh(query + key): (B, H, 1, D), (B, H, S, D), (H, D, 1) -> (B, H, 1, S); None as in ``rated_by_step``.

    As operators of PyTorch it would go over numbers of the size of the keys about half as often again.
    """
    left = _left_of_heads(key, query) if vectors.dtype == key.dtype else None
    return None if left is None else _RateAdditively.apply(query, key, vectors, left)


def mixed_by_step(weights: Tensor, value: Tensor) -> Tensor | None:
    """weights value: (B, H, 1, S), (B, H, S, E) -> (B, H, 1, E); None where the value is not from there."""
    left = _left_of_heads(value, weights)
    return None if left is None else _Mix.apply(weights, value, left)


def _left_of_heads(states: Tensor, asking: Tensor) -> Left | None:
    """``left_for``, where the states have a head for each that asks."""
    return left_for(states, asking) if states.shape[:2] == asking.shape[:2] else None


def _as_given() -> AbstractContextManager[Any]:
    """Products in the precision of their factors, which autocast would lower: backward, nothing does."""
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()


class _Rate(torch.autograd.Function):
    """(B, H, 1, D), (B, H, S, D) -> (B, H, 1, S)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, left: Left) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.left = left
        with _as_given():
            return query @ key.transpose(-2, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        query, key = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.left.add_outer(gradient, query)
        return (gradient @ key if ctx.needs_input_grad[0] else None), None, None


class _RateAdditively(torch.autograd.Function):
    """(B, H, 1, D), (B, H, S, D), (H, D, 1) -> (B, H, 1, S), by tanh(x) = 2 s(2 x) - 1 with the logistic s."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, vectors: Tensor, left: Left) -> Tensor:
        logistic = torch.add(2 * query, key, alpha=2).sigmoid_()
        ctx.save_for_backward(logistic, vectors)
        ctx.left = left
        with _as_given():
            rates = 2 * vectors.transpose(-2, -1) @ logistic.transpose(-2, -1)
        return rates - vectors.sum(dim=1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        logistic, vectors = ctx.saved_tensors
        # d tanh(x) / dx = 4 s(2 x) (1 - s(2 x)); first, as it goes over what no cache holds at the rate of the memory.
        slopes = torch.addcmul(logistic, logistic, logistic, value=-1, out=ctx.left.scratch_like(logistic))
        of_vectors = None
        if ctx.needs_input_grad[2]:
            of_tanh = 2 * (gradient @ logistic).sum(dim=0) - gradient.sum(dim=(0, 3)).unsqueeze(-1)
            of_vectors = of_tanh.transpose(-2, -1)
        channels = 4 * vectors.transpose(-2, -1)
        of_query = channels * (gradient @ slopes) if ctx.needs_input_grad[0] else None
        if ctx.needs_input_grad[1]:
            ctx.left.add(slopes, gradient.transpose(-2, -1), channels)
        return of_query, None, of_vectors, None


class _Mix(torch.autograd.Function):
    """(B, H, 1, S), (B, H, S, E) -> (B, H, 1, E)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, left: Left) -> Tensor:
        ctx.save_for_backward(weights, value)
        ctx.left = left
        with _as_given():
            return weights @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        weights, value = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.left.add_outer(weights, gradient)
        of_weights = gradient @ value.transpose(-2, -1) if ctx.needs_input_grad[0] else None
        return of_weights, None, None
