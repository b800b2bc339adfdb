"""The soft family: score x pattern x weighting x position, any of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from attnbuild.attention.backends import reference, sdpa
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.patterns.full import Full
from attnbuild.attention.state import CacheState, MemoryState, State
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Soft"]


@dataclass
class _Positions:
    """Positions of the queries (N,) and of the keys (S,)."""

    query: Tensor
    key: Tensor


@register("core", "soft")
class Soft(Core):
    """Each value counts by the weight of its key: sum_j w_ij v_j (Bahdanau et al. 2015; Vaswani et al. 2017).

    Args:
        dropout: probability of dropping a weight in training.
        backend: who computes it; auto = sdpa where score and weighting allow and no weights are asked for.
    """

    part_kinds = ("score", "pattern", "weighting", "position")

    def __init__(
        self,
        place: CorePlace,
        *,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        backend: Literal["auto", "reference", "sdpa"] = "auto",
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.score, self.pattern = place.parts.score, place.parts.pattern
        self.weighting, self.position = place.parts.weighting, place.parts.position
        self.dropout = dropout
        # Not isinstance: a weighting derived from Softmax is another function than the kernels'.
        fusible = self.score.dot_like and type(self.weighting) is Softmax
        if backend == "sdpa" and not fusible:
            raise ConfigError("backend 'sdpa' computes softmax(q.k): it needs a dot-like score; use 'auto'", place.name)
        self.backend = ("sdpa" if fusible else "reference") if backend == "auto" else backend

    def extra_repr(self) -> str:
        return f"backend={self.backend}, dropout={self.dropout}"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        positions = _Positions(
            torch.arange(query.shape[2], device=query.device), torch.arange(key.shape[2], device=key.device)
        )
        key = self.position.rotate(self.score.key(key), positions.key)
        return self._attend(query, key, value, positions, key_padding_mask, need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> MemoryState:
        return MemoryState(self.score.key(key), value, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, MemoryState)
        # No position enters between sequences, so where the beams stand on the query axis is all one.
        positions = _Positions(
            torch.zeros(query.shape[2], dtype=torch.long, device=query.device),
            torch.arange(state.key.shape[2], device=query.device),
        )
        attended = self._attend(query, state.key, state.value, positions, state.key_padding_mask, need_weights)
        return attended, state

    def begin(self, like: Tensor) -> CacheState:
        rows, heads = like.shape[0], self.place.kv_heads
        # The score decides how wide a transformed key is: ask it, on an empty key.
        empty = like.new_zeros(rows, heads, 0, self.place.key_dim)
        return CacheState(self.score.key(empty), like.new_zeros(rows, heads, 0, self.place.value_dim))

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        assert isinstance(state, CacheState)
        now = torch.tensor([state.length], device=query.device)
        key = self.position.rotate(self.score.key(key), now)
        state = state.append(key, value, self.pattern.reach)
        positions = _Positions(now, torch.arange(state.first, state.length, device=query.device))
        return self._attend(query, state.key, state.value, positions, None, need_weights), state

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        positions: _Positions,
        key_padding_mask: Tensor | None,
        need_weights: bool,
    ) -> Attended:
        """Raw queries against transformed keys."""
        query = self.position.rotate(self.score.query(query), positions.query)
        bias = self.position.bias(query * self.score.scale, positions.query, positions.key)
        dropout = self.dropout if self.training else 0.0
        if need_weights or self.backend == "reference":
            values, weights = reference.attend(
                query,
                key,
                value,
                score=self.score,
                weighting=self.weighting,
                allowed=self._allowed(positions, key_padding_mask),
                bias=bias,
                dropout=dropout,
            )
            return Attended(values, weights if need_weights else None)
        is_causal = self._is_plainly_causal(positions, key_padding_mask, bias)
        allowed = None if is_causal else self._allowed(positions, key_padding_mask)
        return Attended(
            sdpa.attend(
                query,
                key,
                value,
                scale=self.score.scale,
                allowed=allowed,
                bias=bias,
                is_causal=is_causal,
                dropout=dropout,
            )
        )

    def _is_plainly_causal(self, positions: _Positions, key_padding_mask: Tensor | None, bias: Tensor | None) -> bool:
        """Whether causality is the only limit, over equal sequences: then no mask need be built."""
        plain = self.place.causal and isinstance(self.pattern, Full)
        whole = len(positions.query) == len(positions.key) > 1
        return plain and whole and key_padding_mask is None and bias is None

    def _allowed(self, positions: _Positions, key_padding_mask: Tensor | None) -> Tensor | None:
        """The keys each query may see, broadcastable to (B, H, N, S); None = all."""
        limits = []
        query, key = positions.query.view(1, 1, -1, 1), positions.key.view(1, 1, 1, -1)
        if not isinstance(self.pattern, Full):
            head = torch.arange(self.place.heads, device=query.device).view(1, -1, 1, 1)
            limits.append(self.pattern.mask_mod(head, query, key))
        if self.place.causal and len(positions.query) > 1:
            limits.append(key <= query)
        if key_padding_mask is not None:
            limits.append(~key_padding_mask[:, None, None, :])
        if not limits:
            return None
        allowed = limits[0]
        for limit in limits[1:]:
            allowed = allowed & limit
        return allowed
