"""Attention that knows where it looked last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.products import by_head, mixed, per_head, scored
from attnbuild.attention.state import MemoryState, State, per_row
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["LocationAware"]


@dataclass
class LocationState(MemoryState):
    """The memory's transformed keys and its values, and where each row looked last.

    Attributes:
        previous: (R, H, S), the weights of the step before.
    """

    previous: Tensor = per_row(kw_only=True)


@register("core", "location_aware")
class LocationAware(Core):
    """w' tanh(W s + V h + U f + b), f a convolution over the weights before (Chorowski et al. 2015, equations 8, 9).

    The hybrid of content and location, one of each matrix and of the filters a head. Before the first step
    all weight is on the first key, as in the authors' code; the paper does not say. ``sharpening`` is beta of
    section 2.3; its other two are ``weighting: topk`` and ``weighting: smoothed``.

    Args:
        filters: how many features the convolution gives a position.
        kernel: width of the convolution in positions; odd, so that it is centred.
        score_dim: width of the hidden layer; null = the key's width.
        sharpening: the scores are multiplied by it: above 1 the weights are sharper, below 1 flatter.
        dropout: probability of dropping a weight in training; the next step sees the weights before it.
    """

    part_kinds = ("weighting",)
    capabilities = Capabilities(
        self_attention=False,
        causal=False,
        parallel=False,
        reasons={
            "self_attention": "it finds its way through another sequence, step by step, as only a recurrent decoder's "
            "cross-attention does (decoder=rnn)",
            "parallel": "each step needs the weights of the step before, so only a recurrent decoder can use it "
            "(decoder=rnn)",
        },
    )

    def __init__(
        self,
        place: CorePlace,
        *,
        filters: Annotated[int, Ge(1)] = 10,
        kernel: Annotated[int, Ge(1)] = 15,
        score_dim: Annotated[int, Ge(1)] | None = None,
        sharpening: Annotated[float, Gt(0)] = 1.0,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.weighting = place.parts.weighting
        if kernel % 2 == 0:
            raise ConfigError(
                f"a convolution of width {kernel} has no centre: choose {kernel - 1} or {kernel + 1}",
                f"{place.name}.kernel",
            )
        self.sharpening, self.dropout = sharpening, dropout
        hidden = score_dim or place.key_dim
        self.query_weight = nn.Parameter(torch.empty(place.heads, place.query_dim, hidden))
        self.key_weight = nn.Parameter(torch.empty(place.kv_heads, place.key_dim, hidden))
        self.location_weight = nn.Parameter(torch.empty(place.heads, filters, hidden))
        self.bias = nn.Parameter(torch.zeros(place.heads, 1, hidden))
        self.vector = nn.Parameter(torch.empty(place.heads, hidden, 1))
        self.convolution = nn.Conv1d(
            place.heads, place.heads * filters, kernel, padding=kernel // 2, groups=place.heads, bias=False
        )
        for matrix in (*self.query_weight, *self.key_weight, *self.location_weight, *self.vector):
            nn.init.xavier_uniform_(matrix)
        nn.init.xavier_uniform_(self.convolution.weight)

    def extra_repr(self) -> str:
        return f"sharpening={self.sharpening}, dropout={self.dropout}"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        """The queries are steps, one after the other."""
        state: State = self.remember(key, value, key_padding_mask)
        steps = []
        for position in range(query.shape[2]):
            attended, state = self.recall(query[:, :, position : position + 1], state, need_weights)
            steps.append(attended)
        values = torch.cat([step.values for step in steps], dim=2)
        weights = [step.weights for step in steps if step.weights is not None]
        return Attended(values, torch.cat(weights, dim=2) if weights else None)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> LocationState:
        previous = value.new_zeros(value.shape[0], self.place.heads, value.shape[2])
        previous[..., :1] = 1.0
        if key_padding_mask is not None:
            previous = previous.masked_fill(key_padding_mask.unsqueeze(1), 0.0)
        return LocationState(by_head(key, self.key_weight), value, key_padding_mask, previous=previous)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, LocationState)
        sentences, heads, beams, _ = query.shape
        location = self._locate(state.previous).unflatten(0, (sentences, beams)).transpose(1, 2)
        scores = self._rate(query, state.key, location)
        mask = state.key_padding_mask
        allowed = None if mask is None else ~mask[:, None, None, :]
        weights = self.weighting(scores.to(torch.promote_types(scores.dtype, torch.float32)), allowed)
        weights = weights.to(state.value.dtype)
        value = per_head(state.value, heads)
        values = mixed(F.dropout(weights, self.dropout, self.training), value)
        previous = weights.transpose(1, 2).flatten(0, 1)
        return Attended(values, weights if need_weights else None), replace(state, previous=previous)

    def _locate(self, previous: Tensor) -> Tensor:
        """U f: the weights before, (R, H, S) -> (R, H, S, hidden)."""
        features = self.convolution(previous).unflatten(1, (self.place.heads, -1))
        return by_head(features.transpose(2, 3), self.location_weight)

    def _rate(self, query: Tensor, key: Tensor, location: Tensor) -> Tensor:
        """(B, H, beams, Dq), (B, K, S, hidden), (B, H, beams, S, hidden) -> (B, H, beams, S)."""
        key = per_head(key, query.shape[1])
        asked = by_head(query, self.query_weight) + self.bias
        hidden = torch.tanh(asked.unsqueeze(3) + key.unsqueeze(2) + location)
        return scored(hidden, self.vector) * self.sharpening
