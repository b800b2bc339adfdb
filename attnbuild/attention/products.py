"""Matrix products of attention, in the forms that are fast.

Shape letters: B batch, H heads, N queries, S keys, D and E widths.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnbuild.linear import linear
from attnbuild.step_gradients.attention import mixed_by_step, rated_by_step
from attnbuild.step_gradients.weights import multiplied_by_head_by_step

__all__ = ["by_head", "mixed", "per_head", "rated", "scored"]


def by_head(states: Tensor, matrices: Tensor) -> Tensor:
    """Each head by its matrix: (B, H, N, D), (H, D, E) -> (B, H, N, E).

    ``states @ matrices`` would read the matrices again for each sentence, and keep a gradient of theirs for each.
    """
    gathered = multiplied_by_head_by_step(states, matrices)
    if gathered is not None:
        return gathered
    if len(matrices) == 1:
        return linear(states, matrices[0].t())
    return torch.einsum("bhnd,hde->bhne", states, matrices)


def per_head(states: Tensor, heads: int) -> Tensor:
    """Those of the key and value heads for the query heads that share them: (B, K, ...) -> (B, H, ...).

    Where none share, they are given as they are: ``repeat_interleave`` would copy them.
    """
    shared = heads // states.shape[1]
    return states if shared == 1 else states.repeat_interleave(shared, dim=1)


def rated(query: Tensor, key: Tensor) -> Tensor:
    """query key': (B, H, N, D), (B, H, S, D) -> (B, H, N, S)."""
    if _is_learning_step(query, key):
        gathered = rated_by_step(query, key)
        return (query * key).sum(dim=-1).unsqueeze(-2) if gathered is None else gathered
    return query @ key.transpose(-2, -1)


def mixed(weights: Tensor, value: Tensor) -> Tensor:
    """weights value: (B, H, N, S), (B, H, S, E) -> (B, H, N, E)."""
    if _is_learning_step(weights, value):
        gathered = mixed_by_step(weights, value)
        return (weights.transpose(-2, -1) * value).sum(dim=-2, keepdim=True) if gathered is None else gathered
    return weights @ value


def scored(hidden: Tensor, vectors: Tensor) -> Tensor:
    """hidden times the vector of its head: (B, H, N, S, D), (H, D, 1) -> (B, H, N, S)."""
    if _learns_on_cpu(hidden, vectors):
        if hidden.shape[2] == 1:  # a function of our own costs more than it saves
            return (hidden * vectors.view(len(vectors), 1, 1, -1)).sum(dim=-1)
        if not torch.compiler.is_compiling():
            return _Score.apply(hidden, vectors)
    return _by_vectors(hidden, vectors)


def _by_vectors(hidden: Tensor, vectors: Tensor) -> Tensor:
    """The same, by rows: with the vectors as columns, MKL takes 5 to 9 times as long."""
    return (vectors.transpose(-2, -1).unsqueeze(1) @ hidden.transpose(-2, -1)).squeeze(-2)


class _Score(torch.autograd.Function):
    """``_by_vectors``, whose gradient of the hidden states, an outer product, is made number by number."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, hidden: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, vectors)
        return _by_vectors(hidden, vectors)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        hidden, vectors = ctx.saved_tensors
        (gradient,) = gradients
        of_hidden, of_vectors = None, None
        if ctx.needs_input_grad[0]:
            of_hidden = gradient.unsqueeze(-1) * vectors.to(gradient.dtype).transpose(-2, -1).unsqueeze(1)
        if ctx.needs_input_grad[1]:
            of_vectors = (gradient.unsqueeze(-2) @ hidden).sum(dim=(0, 2)).transpose(-2, -1)
        return of_hidden, of_vectors


def _is_learning_step(asking: Tensor, asked: Tensor) -> bool:
    """Whether there is one query, as in a recurrent decoder, and a gradient is wanted on a CPU.

    That of the keys is then an outer product, for which a library of matrix products takes thirty times as long as
    to multiply number by number; where steps share it (``step_gradients``), it is no such product.
    """
    return asking.shape[-2] == 1 and _learns_on_cpu(asking, asked)


def _learns_on_cpu(left: Tensor, right: Tensor) -> bool:
    learns = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    return learns and left.device.type == "cpu"
