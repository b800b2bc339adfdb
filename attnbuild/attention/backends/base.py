"""What every backend is given, and what it gives back.

Shape letters: B batch, H heads, K key heads, N queries, S keys, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attnbuild.attention.parts import Parts
from attnbuild.attention.patterns.full import Full
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.span import Span

__all__ = ["Answer", "Call", "Need"]


@dataclass(frozen=True, kw_only=True)
class Need:
    """What is asked of a backend. What is not known yet when an attention is built is None, and refuses nothing.

    Attributes:
        parts: score, pattern, weighting and position.
        place: causal or not, self or cross, how many heads and how wide.
        device: kind of device.
        queries: N.
        keys: S.
        gradient: whether one will be asked for.
        dropout: whether weights are dropped.
        dtype: of the numbers.
    """

    parts: Parts
    place: HeadPlace
    device: str | None = None
    queries: int | None = None
    keys: int | None = None
    gradient: bool | None = None
    dropout: bool | None = None
    dtype: torch.dtype | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attention to compute.

    Attributes:
        query: (B, H, N, D), transformed by the score and turned by its position.
        key: (B, K, S, D), the same; K divides H.
        value: (B, K, S, Dv).
        queries_at: the positions of the N queries.
        keys_at: the positions of the S keys.
        parts: score, pattern, weighting and position.
        key_padding_mask: (B, S), True = padding; None = no padding.
        place: causal or not, and how many heads.
        dropout: probability of dropping a weight; 0 outside training.
        need_weights: give the weights too.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    queries_at: Span
    keys_at: Span
    parts: Parts
    place: HeadPlace
    key_padding_mask: Tensor | None = None
    dropout: float = 0.0
    need_weights: bool = False

    def need(self) -> Need:
        """The same in words that a choice is made by."""
        return Need(
            parts=self.parts,
            place=self.place,
            device=self.query.device.type,
            queries=self.query.shape[2],
            keys=self.key.shape[2],
            gradient=torch.is_grad_enabled() and self._learns(),
            dropout=self.dropout > 0,
            dtype=self.value.dtype,
        )

    def _learns(self) -> bool:
        tensors = (self.query, self.key, self.value, *self.parts.position.parameters())
        return any(tensor.requires_grad for tensor in tensors)

    @property
    def whole(self) -> bool:
        """Whether query and key are one sequence from its start, and not the last step of one."""
        return self.query.shape[2] == self.key.shape[2] > 1

    @property
    def query_positions(self) -> Tensor:
        """(N,)."""
        return self.queries_at.on(self.query.device)

    @property
    def key_positions(self) -> Tensor:
        """(S,)."""
        return self.keys_at.on(self.query.device)

    def bias(self) -> Tensor | None:
        """What the position adds to the scores, broadcastable to (B, H, N, S)."""
        if not self.parts.position.has_bias:
            return None
        scaled = self.query * self.parts.score.scale
        return self.parts.position.bias(scaled, self.query_positions, self.key_positions)

    def allowed(self) -> Tensor | None:
        """The keys each query may see, broadcastable to (B, H, N, S); None = all."""
        limits = []
        if not isinstance(self.parts.pattern, Full):
            head = torch.arange(self.query.shape[1], device=self.query.device).view(1, -1, 1, 1)
            limits.append(self.parts.pattern.mask_mod(head, *self._crossed()))
        if self.place.causal and self.query.shape[2] > 1:
            query, key = self._crossed()
            limits.append(key <= query)
        if self.key_padding_mask is not None:
            limits.append(~self.key_padding_mask[:, None, None, :])
        if not limits:
            return None
        allowed = limits[0]
        for limit in limits[1:]:
            allowed = allowed & limit
        return allowed

    def _crossed(self) -> tuple[Tensor, Tensor]:
        """Positions of queries and keys, (1, 1, N, 1) and (1, 1, 1, S)."""
        return self.query_positions.view(1, 1, -1, 1), self.key_positions.view(1, 1, 1, -1)


@dataclass
class Answer:
    """Values (B, H, N, Dv), and where asked for the weights (B, H, N, S), before dropout."""

    values: Tensor
    weights: Tensor | None = None
