"""Attention with a kernel, phi(q).phi(k) for exp(q.k): linear in length, and a state of constant size.

What Katharopoulos et al. 2020, Choromanski et al. 2021 and Qin et al. 2022 share; they differ in phi.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.kernelised.kernel_sums import largest_exponents, read, summarise
from attnbuild.attention.kernelised.prefix_sums import attend_causally
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import finest_dtype, full_precision, sum_dtype
from attnbuild.attention.products import per_head
from attnbuild.attention.state import State, per_row, per_sentence
from attnbuild.errors import ConfigError

__all__ = ["Kernelised", "PrefixState", "SummaryState"]


@dataclass
class SummaryState(State):
    """Cross-attention: the sums over a sentence's keys, all that its queries read.

    Attributes:
        sums: (B, K, F, E), of phi(k) v.
        totals: (B, K, F), of phi(k).
        shift: (B, K, F), what they are relative to, or None.
        key: (B, K, S, D), read only where weights are asked for.
        key_padding_mask: (B, S), the same.
    """

    sums: Tensor = per_sentence()
    totals: Tensor = per_sentence()
    shift: Tensor | None = per_sentence()
    key: Tensor = per_sentence()
    key_padding_mask: Tensor | None = per_sentence(default=None)


@dataclass
class PrefixState(State):
    """Causal self-attention: the sums over the keys so far, of constant size.

    Attributes:
        sums: (R, K, F, E), of phi(k) v.
        totals: (R, K, F), of phi(k).
        shift: (R, K, F), what they are relative to, or None.
        length: keys so far.
    """

    sums: Tensor = per_row()
    totals: Tensor = per_row()
    shift: Tensor | None = per_row()
    length: int = 0


class Kernelised(Core):
    """Weights phi(q_i).phi(k_j) / sum_j phi(q_i).phi(k_j), never formed unless they are asked for.

    Attributes:
        chunk: positions computed at a time; None = what suits the device. It changes nothing but rounding.
    """

    capabilities = Capabilities(linear_memory=True)
    chunk: ClassVar[int | None] = None

    def __init__(self, place: CorePlace) -> None:
        super().__init__(place)
        if place.query_dim != place.key_dim:
            raise ConfigError(
                f"it multiplies features of query and key, so their widths must be equal; they are {place.query_dim} "
                f"and {place.key_dim}: set equal dims, or projections=all",
                f"{place.name}.projections",
            )

    @abstractmethod
    def feature_map(self) -> FeatureMap:
        """phi."""

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        phi = self.feature_map()
        if need_weights:
            weights = self._weights(query, key, key_padding_mask)
            return Attended(self.mix(weights, value), weights)
        if self.place.causal:
            return Attended(attend_causally(phi, query, key, value, key_padding_mask, self.chunk))
        sums = summarise(phi, key, value, key_padding_mask, self.chunk)
        return Attended(read(phi, query, sums, value.dtype, self.chunk))

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> SummaryState:
        sums = summarise(self.feature_map(), key, value, key_padding_mask, self.chunk)
        return SummaryState(*sums, key, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, SummaryState)
        phi = self.feature_map()
        sums = (state.sums, state.totals, state.shift)
        values = read(phi, query, sums, query.dtype, self.chunk)
        weights = self._weights(query, state.key, state.key_padding_mask) if need_weights else None
        return Attended(values, weights), state

    def begin(self, like: Tensor) -> PrefixState:
        rows, heads, features = like.shape[0], self.place.kv_heads, self.feature_map().size(self.place.key_dim)
        totals = like.new_zeros(rows, heads, features, dtype=sum_dtype(like.dtype))
        shift = torch.full_like(totals, -torch.inf) if self.feature_map().shifted else None
        return PrefixState(totals.unsqueeze(-1).repeat(1, 1, 1, self.place.value_dim), totals, shift)

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        """One step; a state that holds no keys has no weights to give."""
        assert isinstance(state, PrefixState)
        phi, dtype, given = self.feature_map(), state.totals.dtype, value.dtype
        position = torch.tensor([state.length], device=query.device) if phi.positional else None
        with full_precision(query):
            key, value = key.to(dtype), value.to(dtype)
            sums, totals, shift = state.sums, state.totals, state.shift
            if state.shift is not None:
                shift = torch.maximum(state.shift, phi.exponents(key.detach()).squeeze(2))
                decay = torch.exp2(state.shift - shift)
                sums, totals = sums * decay.unsqueeze(-1), totals * decay
            features = phi.plain(key, position, shift, is_query=False)
            sums, totals = sums + features.transpose(2, 3) * value, totals + features.squeeze(2)
        values = read(phi, query, (sums, totals, shift), given, self.chunk, first=state.length)
        return Attended(values), PrefixState(sums, totals, shift, state.length + 1)

    def _weights(self, query: Tensor, key: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """The naive form, (B, H, N, S): quadratic, and what the sums are tested against."""
        phi = self.feature_map()
        # One shift serves all queries here, however far their keys' exponents lie apart: single precision is too short.
        dtype = finest_dtype(query.device) if phi.shifted else sum_dtype(query.dtype)
        with full_precision(query):
            shift = largest_exponents(phi, key, key_padding_mask) if phi.shifted else None
            of_query = self._plain(phi, query.to(dtype), shift, is_query=True)
            of_key = self._plain(phi, key.to(dtype), shift, is_query=False)
            of_key = per_head(of_key, query.shape[1])
            products = of_query @ of_key.transpose(-1, -2)
            if key_padding_mask is not None:
                products = products.masked_fill(key_padding_mask[:, None, None, :], 0)
            if self.place.causal:
                products = products.tril()
            totals = products.sum(dim=-1, keepdim=True)
            # Where nothing is seen, 0 / 1: no NaN, nor in the gradient.
            return (products / totals.masked_fill(totals < torch.finfo(dtype).tiny, 1)).to(query.dtype)

    def _plain(self, phi: FeatureMap, states: Tensor, shift: Tensor | None, is_query: bool) -> Tensor:
        """(B, H or K, N, D), (B, K, F) -> (B, H or K, N, F)."""
        positions = torch.arange(states.shape[2], device=states.device) if phi.positional else None
        if shift is not None:
            shift = per_head(shift, states.shape[1])
        return phi.plain(states, positions, shift, is_query)
