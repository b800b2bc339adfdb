"""A soft window whose place and width the query predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt, Interval
from torch import Tensor, nn

from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import full_precision
from attnbuild.attention.products import by_head, mixed, per_head
from attnbuild.attention.state import State, per_row, per_sentence
from attnbuild.registry import register

__all__ = ["Gaussian"]


@dataclass
class ValueMemory(State):
    """Cross-attention: the memory's values, (B, K, S, Dv), and padding, (B, S)."""

    value: Tensor = per_sentence()
    key_padding_mask: Tensor | None = per_sentence(default=None)


@dataclass
class ValueCache(State):
    """Self-attention: the values so far, (R, K, T, Dv)."""

    value: Tensor = per_row()

    @property
    def length(self) -> int:
        """How many positions have been decoded."""
        return self.value.shape[2]


@register("core", "gaussian")
class Gaussian(Core):
    """Weights are a Gaussian over positions, mean and variance predicted by the query, a pair of them a head.

    From Graves 2013 (arXiv 1308.0850), section 5.1: a soft window by position alone, exp(-beta (kappa - j)^2).
    Ours: kappa does not move on from step to step but is the fraction sigmoid(.) of the last visible position,
    so that it serves everywhere (the last real key; in causal self-attention the query's own position); the
    variance is softplus(.) and a floor, in squared positions; the weights are normalised over the visible keys;
    and heads take the place of the mixture.

    Args:
        sigma: standard deviation in positions that training starts from; 0.25 at the least.
        dropout: probability of dropping a weight in training.
    """

    part_kinds = ("weighting",)
    reads_key = False
    #: A quarter of a position: narrower, a mean between two keys would still see both, and gradients would explode.
    smallest_variance = 1 / 16

    def __init__(
        self,
        place: CorePlace,
        *,
        sigma: Annotated[float, Gt(0)] = 3.0,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.weighting, self.dropout = place.parts.weighting, dropout
        self.mean_weight = nn.Parameter(torch.empty(place.heads, place.query_dim, 1))
        self.mean_bias = nn.Parameter(torch.zeros(place.heads, 1, 1))
        self.variance_weight = nn.Parameter(torch.empty(place.heads, place.query_dim, 1))
        start = _inverse_softplus(max(sigma**2 - self.smallest_variance, 1e-4))
        self.variance_bias = nn.Parameter(torch.full((place.heads, 1, 1), start))
        for matrix in (*self.mean_weight, *self.variance_weight):
            nn.init.xavier_uniform_(matrix)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        allowed, length = None, value.shape[2]
        positions = torch.arange(length, device=value.device)
        last = positions.new_full((1, 1, 1, 1), length - 1)
        if key_padding_mask is not None:
            allowed = ~key_padding_mask[:, None, None, :]
            last = allowed.sum(dim=-1, keepdim=True) - 1  # padding stands at the end
        if self.place.causal:
            seen = positions.view(1, 1, 1, -1) <= positions.view(1, 1, -1, 1)
            allowed = seen if allowed is None else allowed & seen
            last = torch.minimum(last, positions.view(1, 1, -1, 1))
        return self._attend(query, value, last, allowed, need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> ValueMemory:
        return ValueMemory(value, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, ValueMemory)
        return self.attend(query, state.value, state.value, state.key_padding_mask, need_weights), state

    def begin(self, like: Tensor) -> ValueCache:
        return ValueCache(like.new_zeros(like.shape[0], self.place.kv_heads, 0, self.place.value_dim))

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        assert isinstance(state, ValueCache)
        state = replace(state, value=torch.cat([state.value, value], dim=2))
        last = torch.full((1, 1, 1, 1), state.value.shape[2] - 1, device=value.device)
        return self._attend(query, state.value, last, None, need_weights), state

    def _attend(
        self, query: Tensor, value: Tensor, last: Tensor, allowed: Tensor | None, need_weights: bool
    ) -> Attended:
        """``last``: the last visible position of each query, broadcastable to (B, H, N, 1); -1 = none is."""
        value = per_head(value, query.shape[1])
        # In fp32 at least, the products too: bf16 cannot count positions, and a step of a share is many of them.
        precision = torch.promote_types(query.dtype, torch.float32)
        with full_precision(query):
            query = query.to(precision)
            share = torch.sigmoid(by_head(query, self.mean_weight.to(precision)) + self.mean_bias)
            spread = F.softplus(by_head(query, self.variance_weight.to(precision)) + self.variance_bias)
        distance = torch.arange(value.shape[2], device=value.device) - share * last
        scores = -distance.square() / (2 * (spread + self.smallest_variance))
        weights = self.weighting(scores, allowed).to(value.dtype)
        values = mixed(F.dropout(weights, self.dropout, self.training), value)
        return Attended(values, weights if need_weights else None)


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))
