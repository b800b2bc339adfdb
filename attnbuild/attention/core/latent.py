"""Latent attention: keys and values of all heads from one short vector a position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from attnbuild.attention.backends import sdpa
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.positions.rope import RoPE
from attnbuild.attention.products import per_head
from attnbuild.attention.state import State, per_row, per_sentence
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.errors import ConfigError
from attnbuild.linear import Linear
from attnbuild.registry import register

__all__ = ["Latent"]


@dataclass
class _LatentMemory(State):
    """Cross-attention: latent (B, S, rank) and key_padding_mask (B, S) of the memory, once a sentence."""

    latent: Tensor = per_sentence()
    key_padding_mask: Tensor | None = per_sentence(default=None)


@dataclass
class _LatentCache(State):
    """Self-attention: latent (R, T, rank) and the turned shared key (R, T, rope_dim) of what was decoded."""

    latent: Tensor = per_row()
    rope: Tensor = per_row()

    @property
    def length(self) -> int:
        """How many positions have been decoded."""
        return self.latent.shape[1]


@register("core", "latent")
class Latent(Core):
    """Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434, section 2.1, equations 9 to 19).

    Keys and values of every head are linear in one latent vector a position, c = norm(W_DKV h). Place enters by a
    part of query and key of its own, turned by RoPE; its key is shared by the heads. Decoding remembers only c and
    that key: the matrix that makes keys is taken over to the query, that of the values to the context (2.1.2),
    so no head's keys are ever formed at a step. Latent vectors are normalised by RMSNorm, as in the authors' model
    (3.1.2; the equations leave it out). In cross-attention, query and memory have no places in common, and the
    part turned by RoPE is left out. ``bias`` concerns the output alone.

    Args:
        rank: width of the latent vector of keys and values, d_c; the paper takes 4 times a head's width.
        query_rank: width of a latent vector that queries are made from too, d_c'; null = none, from the state itself.
        rope_dim: width of the part that RoPE turns, even; the paper takes half a head's width; 0 = no positions.
        rope_base: the base of the geometric series of wavelengths.
        dropout: probability of dropping a weight in training.
    """

    owns_projections = True
    capabilities = Capabilities()

    def __init__(
        self,
        place: CorePlace,
        *,
        rank: Annotated[int, Ge(1)] = 64,
        query_rank: Annotated[int, Ge(1)] | None = None,
        rope_dim: Annotated[int, Ge(0)] = 16,
        rope_base: Annotated[float, Gt(1)] = 10000.0,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        if rope_dim % 2:
            raise ConfigError(
                f"{rope_dim}: RoPE turns pairs of channels: choose {rope_dim - 1} or {rope_dim + 1}",
                f"{place.name}.rope_dim",
            )
        self.width, self.rank, self.dropout = place.dim // place.heads, rank, dropout
        self.rope_dim = 0 if place.cross else rope_dim
        self.scale = (self.width + self.rope_dim) ** -0.5
        self.weighting = Softmax(place)
        self.key_value_down = _linear(place.memory_dim, rank)
        self.key_value_norm = _Norm(rank, eps=1e-6)
        self.key_up = _linear(rank, place.kv_heads * self.width)
        self.value_up = _linear(rank, place.kv_heads * self.width)
        asked = place.dim if query_rank is None else query_rank
        self.query_down = (
            nn.Identity()
            if query_rank is None
            else nn.Sequential(_linear(place.dim, query_rank), _Norm(query_rank, eps=1e-6))
        )
        self.query_up = _linear(asked, place.heads * self.width)
        if self.rope_dim:
            self.rope = RoPE(replace(place, key_dim=self.rope_dim), rope_base=rope_base)
            self.query_rope = _linear(asked, place.heads * self.rope_dim)
            self.key_rope = _linear(place.memory_dim, self.rope_dim)

    def extra_repr(self) -> str:
        return f"rank={self.rank}, rope_dim={self.rope_dim}, dropout={self.dropout}"

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        return weights @ self._up(self.value_up, self._latent(value))

    # Whole sequences: keys and values of all heads are formed once

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        latent, places = self._latent(value), torch.arange(value.shape[2], device=value.device)
        queries = torch.cat(self._queries(query, torch.arange(query.shape[2], device=query.device)), dim=-1)
        keys, values = self._up(self.key_up, latent), self._up(self.value_up, latent)
        if self.rope_dim:
            shared = self._rope_key(value, places).unsqueeze(1).expand(-1, keys.shape[1], -1, -1)
            keys = torch.cat([keys, shared.to(keys.dtype)], dim=-1)
        is_causal = self.place.causal and key_padding_mask is None
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            allowed = self._allowed(query.shape[2], places, key_padding_mask)
            weights = self._weights(queries @ keys.transpose(-2, -1), allowed).to(values.dtype)
            return Attended(F.dropout(weights, dropout) @ values, weights)
        attended = sdpa.attend(
            queries,
            keys,
            # The kernels want keys and values of one width.
            F.pad(values, (0, self.rope_dim)),
            scale=self.scale,
            allowed=None if is_causal else self._allowed(query.shape[2], places, key_padding_mask),
            bias=None,
            is_causal=is_causal,
            dropout=dropout,
        )
        return Attended(attended[..., : self.width])

    # Steps: heads read the latent vectors themselves

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> _LatentMemory:
        return _LatentMemory(self._latent(value).squeeze(1), key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, _LatentMemory)
        mask = state.key_padding_mask
        allowed = None if mask is None else ~mask[:, None, None, :]
        return self._absorbed(self._queries(query, None), state.latent, None, allowed, need_weights), state

    def begin(self, like: Tensor) -> _LatentCache:
        rows = like.shape[0]
        return _LatentCache(like.new_zeros(rows, 0, self.rank), like.new_zeros(rows, 0, self.rope_dim))

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        assert isinstance(state, _LatentCache)
        now = torch.tensor([state.length], device=query.device)
        latent, rope = self._latent(value).squeeze(1), state.rope
        latent = torch.cat([state.latent.to(latent.dtype), latent], dim=1)
        if self.rope_dim:
            turned = self._rope_key(value, now)
            rope = torch.cat([rope.to(turned.dtype), turned], dim=1)
        queries = self._queries(query, now)
        return self._absorbed(queries, latent, rope, None, need_weights), _LatentCache(latent, rope)

    def _absorbed(
        self,
        queries: tuple[Tensor, ...],
        latent: Tensor,
        rope: Tensor | None,
        allowed: Tensor | None,
        need_weights: bool,
    ) -> Attended:
        """q'(W_UK c) = (W_UK' q)'c, and sum_j w_j W_UV c_j = W_UV sum_j w_j c_j.

        Args:
            queries: (B, H, N, width) and, with RoPE, (B, H, N, rope_dim).
            latent: (B, S, rank).
            rope: (B, S, rope_dim), or None without RoPE.
            allowed: broadcastable to (B, H, N, S); None = all.
            need_weights: also return them.
        """
        latent = latent.unsqueeze(1)
        scores = (queries[0] @ self._matrix(self.key_up)) @ latent.transpose(-2, -1)
        if rope is not None and self.rope_dim:
            scores = scores + queries[1] @ rope.unsqueeze(1).transpose(-2, -1)
        weights = self._weights(scores, allowed).to(latent.dtype)
        context = F.dropout(weights, self.dropout if self.training else 0.0) @ latent
        return Attended(context @ self._matrix(self.value_up).transpose(-2, -1), weights if need_weights else None)

    # Pieces

    def _latent(self, states: Tensor) -> Tensor:
        """c: (B, 1, S, memory_dim) -> (B, 1, S, rank)."""
        return self.key_value_norm(self.key_value_down(states))

    def _up(self, projection: nn.Linear, latent: Tensor) -> Tensor:
        """Keys or values of every query head: (B, 1, S, rank) -> (B, H, S, width)."""
        heads = projection(latent.squeeze(1)).unflatten(-1, (self.place.kv_heads, -1)).transpose(1, 2)
        return per_head(heads, self.place.heads)

    def _matrix(self, projection: nn.Linear) -> Tensor:
        """The matrix of every query head, (H, width, rank)."""
        matrix = projection.weight.unflatten(0, (self.place.kv_heads, -1))
        return matrix.repeat_interleave(self.place.heads // self.place.kv_heads, dim=0)

    def _queries(self, query: Tensor, positions: Tensor | None) -> tuple[Tensor, ...]:
        """(B, 1, N, dim) -> (B, H, N, width) and, with RoPE, (B, H, N, rope_dim)."""
        asked = self.query_down(query.squeeze(1))
        plain = self.query_up(asked).unflatten(-1, (self.place.heads, -1)).transpose(1, 2)
        if positions is None or not self.rope_dim:
            return (plain,)
        turned = self.query_rope(asked).unflatten(-1, (self.place.heads, -1)).transpose(1, 2)
        return plain, self.rope.rotate(turned, positions)

    def _rope_key(self, states: Tensor, positions: Tensor) -> Tensor:
        """The key that all heads share: (B, 1, S, memory_dim), (S,) -> (B, S, rope_dim)."""
        return self.rope.rotate(self.key_rope(states), positions).squeeze(1)

    def _weights(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        """In fp32 at least."""
        return self.weighting(self.scale * scores.to(torch.promote_types(scores.dtype, torch.float32)), allowed)

    def _allowed(self, queries: int, places: Tensor, key_padding_mask: Tensor | None) -> Tensor | None:
        """The keys each query may see, broadcastable to (B, H, N, S); None = all."""
        padded = None if key_padding_mask is None else ~key_padding_mask[:, None, None, :]
        if not self.place.causal:
            return padded
        causal = places.view(1, 1, 1, -1) <= torch.arange(queries, device=places.device).view(1, 1, -1, 1)
        return causal if padded is None else causal & padded


class _Norm(nn.RMSNorm):
    """In the precision of its gain, which autocast leaves at fp32."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.to(self.weight.dtype)).to(states.dtype)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """As the paper's: without bias; Xavier uniform weights."""
    layer = Linear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer
