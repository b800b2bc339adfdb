"""The gradient of keys and values that many single queries read, made once for all of them.

A recurrent decoder asks with one query a step. Each step's gradient of the keys (and values) is an outer product as
large as they are, which autograd would make and add up step by step. What it is made of is small: here it is kept
until the last step is done, and then one matrix product makes the sum over all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["mixed_by_step", "rated_by_step", "read_by_steps"]


def read_by_steps(states: Tensor) -> Tensor:
    """Keys or values (B, H, S, D) as they are, ready for ``rated_by_step`` and ``mixed_by_step``."""
    learns = torch.is_grad_enabled() and states.requires_grad
    if not learns or states.device.type != "cpu" or torch.compiler.is_compiling():
        return states
    return _Read.apply(states)


def rated_by_step(query: Tensor, key: Tensor) -> Tensor | None:
    """query key': (B, H, 1, D), (B, H, S, D) -> (B, H, 1, S); None where the key is not from ``read_by_steps``."""
    pairs = _pairs_of(key, query)
    return None if pairs is None else _Rate.apply(query, key, pairs)


def mixed_by_step(weights: Tensor, value: Tensor) -> Tensor | None:
    """weights value: (B, H, 1, S), (B, H, S, E) -> (B, H, 1, E); None where the value is not from there."""
    pairs = _pairs_of(value, weights)
    return None if pairs is None else _Mix.apply(weights, value, pairs)


#: Of each step, two factors (B, H, 1, S) and (B, H, 1, D) whose outer product is its gradient.
_Pairs = list[tuple[Tensor, Tensor]]


def _pairs_of(states: Tensor, asking: Tensor) -> _Pairs | None:
    """Where the gradient of these states is gathered, if they are read by such steps."""
    fits = asking.shape[:2] == states.shape[:2] and asking.dtype == states.dtype
    pairs: _Pairs | None = getattr(states.grad_fn, "pairs", None) if fits else None
    return pairs


class _Read(torch.autograd.Function):
    """The same states; backward, what the steps have left is made into their gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        ctx.pairs = []
        ctx.set_materialize_grads(False)
        return states.view_as(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> Tensor | None:
        if not ctx.pairs:
            return gradient
        by_key, by_channel = (torch.cat(factors, dim=2) for factors in zip(*ctx.pairs, strict=True))
        ctx.pairs.clear()
        gathered = by_key.transpose(-2, -1) @ by_channel
        return gathered if gradient is None else gathered + gradient


class _Rate(torch.autograd.Function):
    """(B, H, 1, D), (B, H, S, D) -> (B, H, 1, S)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, pairs: _Pairs) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.pairs = pairs
        return (query * key).sum(dim=-1).unsqueeze(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        query, key = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.pairs.append((gradient, query))
        return (_mix(gradient, key) if ctx.needs_input_grad[0] else None), None, None


class _Mix(torch.autograd.Function):
    """(B, H, 1, S), (B, H, S, E) -> (B, H, 1, E)."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, pairs: _Pairs) -> Tensor:
        ctx.save_for_backward(weights, value)
        ctx.pairs = pairs
        return _mix(weights, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        weights, value = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.pairs.append((weights, gradient))
        of_weights = (gradient * value).sum(dim=-1).unsqueeze(-2) if ctx.needs_input_grad[0] else None
        return of_weights, None, None


def _mix(weights: Tensor, states: Tensor) -> Tensor:
    return (weights.transpose(-2, -1) * states).sum(dim=-2, keepdim=True)
