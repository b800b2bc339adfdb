"""Products with weights, step by step, which leave what the gradients of the weights are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attnbuild.step_gradients.gathering import Left, left_for, read_by_steps

__all__ = ["multiplied_by_head_by_step", "multiplied_by_step", "weights_read_by_steps"]


@contextmanager
def weights_read_by_steps(*modules: nn.Module) -> Iterator[None]:
    """For the steps of one loop, these modules find ``read_by_steps`` of their weights where they look for them.

    Half precision by autocast is left alone: it keeps what it made of a parameter, and would make it again each step.
    """
    shadowed = []
    try:
        for module in () if torch.is_autocast_enabled("cpu") else modules:
            for layer in module.modules():
                for name, parameter in layer.named_parameters(recurse=False):
                    if parameter.dim() > 1 and type(parameter) is nn.Parameter:
                        # Python looks for an attribute here first, and a module's parameters come last.
                        vars(layer)[name] = read_by_steps(parameter)
                        shadowed.append((layer, name))
        yield
    finally:
        for layer, name in shadowed:
            del vars(layer)[name]


def multiplied_by_step(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """rows weight' + bias: (..., K), (M, K), (M,) -> (..., M); None where the weight is not from ``read_by_steps``."""
    left = left_for(weight, rows)
    return None if left is None else _Multiply.apply(rows, weight, bias, left)


def multiplied_by_head_by_step(states: Tensor, matrices: Tensor) -> Tensor | None:
    """Each head by its matrix: (B, H, N, D), (H, D, E) -> (B, H, N, E); None as in ``multiplied_by_step``."""
    left = left_for(matrices, states)
    return None if left is None else _MultiplyByHead.apply(states, matrices, left)


class _Multiply(torch.autograd.Function):
    """(..., K), (M, K), (M,) or None -> (..., M)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, left: Left) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.left = left
        return F.linear(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        rows, weight = ctx.saved_tensors
        of_rows = gradient @ weight if ctx.needs_input_grad[0] else None
        rows, gradient = rows.flatten(0, -2), gradient.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            ctx.left.add_outer(gradient, rows)
        return of_rows, None, gradient.sum(dim=0) if ctx.needs_input_grad[2] else None, None


class _MultiplyByHead(torch.autograd.Function):
    """(B, H, N, D), (H, D, E) -> (B, H, N, E)."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, matrices: Tensor, left: Left) -> Tensor:
        rows = states.transpose(0, 1).flatten(1, 2)
        ctx.save_for_backward(rows, matrices)
        ctx.left = left
        return (rows @ matrices).unflatten(1, (len(states), -1)).transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        rows, matrices = ctx.saved_tensors
        by_head = gradient.transpose(0, 1).flatten(1, 2)
        if ctx.needs_input_grad[1]:
            ctx.left.add_outer(rows, by_head)
        of_rows = by_head @ matrices.transpose(-2, -1)
        return of_rows.unflatten(1, (len(gradient), -1)).transpose(0, 1), None, None
