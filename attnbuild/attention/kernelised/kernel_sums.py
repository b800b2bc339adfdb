"""Sums over keys of phi(k) v and phi(k), and what queries read from them, in chunks that fit the cache.

With features phi, attention is o_i = phi(q_i) S / (phi(q_i).z), where S = sum_j phi(k_j) v_j and
z = sum_j phi(k_j) (Katharopoulos et al. 2020, equations 4 to 6). The backward passes compute the features
again, so what is kept is of the size of the inputs.

Shape letters: R rows (sentences x key heads), G query heads a key head, N queries, S keys, C a chunk, F features,
D and E widths of keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.attention.kernelised.chunks import Chunks, like, masked, write
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.precision import full_precision

__all__ = ["Sums", "inverse_of", "largest_exponents", "quotient_gradient", "read", "summarise"]

Sums = tuple[Tensor, Tensor, Tensor | None]
"""S (B, K, F, E), z (B, K, F), and the shift (B, K, F) that they are relative to, or None."""


def summarise(
    feature_map: FeatureMap, key: Tensor, value: Tensor, key_padding_mask: Tensor | None, chunk: int | None = None
) -> Sums:
    """Sums over all real keys: (B, K, S, D), (B, K, S, E), (B, S) -> S, z and their shift."""
    with full_precision(key):
        shift = largest_exponents(feature_map, key, key_padding_mask, chunk) if feature_map.shifted else None
        sums, totals = _Summarise.apply(key, value, shift, key_padding_mask, feature_map, chunk)
    return sums, totals, shift


def read(
    feature_map: FeatureMap, query: Tensor, sums: Sums, dtype: torch.dtype, chunk: int | None = None, first: int = 0
) -> Tensor:
    """What queries (B, H, N, D) at positions from ``first`` on read: values (B, H, N, E); 0 where there was no key."""
    with full_precision(query):
        return _Read.apply(query, *sums, feature_map, dtype, chunk, first)


def largest_exponents(feature_map: FeatureMap, key: Tensor, mask: Tensor | None, chunk: int | None = None) -> Tensor:
    """(B, K, S, D) -> (B, K, F), the largest exponent of each feature over the real keys; 0 where there is none."""
    with torch.no_grad():
        batch, heads, _, width = key.shape
        features = feature_map.size(width)
        chunks = Chunks(key, heads, features, chunk)
        largest = key.new_full((batch * heads, features), -torch.inf, dtype=chunks.dtype)
        for part in chunks:
            exponents = masked(feature_map.exponents(chunks.cut(key, part)), chunks.padding(mask, part), -torch.inf)
            torch.maximum(largest, exponents.amax(dim=1), out=largest)
        return largest.masked_fill_(largest == -torch.inf, 0).unflatten(0, (batch, heads))


def _rows(tensor: Tensor | None) -> Tensor | None:
    """(B, K, ...) -> (B x K, ...)."""
    return None if tensor is None else tensor.flatten(0, 1)


def inverse_of(totals: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0 or too small to have an inverse: a query without keys reads nothing. Overwrites."""
    nothing = totals < torch.finfo(totals.dtype).tiny
    return totals.reciprocal_().masked_fill_(nothing, 0)


class _Summarise(torch.autograd.Function):
    """key (B, K, S, D), value (B, K, S, E) -> S (B, K, F, E), z (B, K, F)."""

    @staticmethod
    def forward(
        ctx: Any,
        key: Tensor,
        value: Tensor,
        shift: Tensor | None,
        mask: Tensor | None,
        feature_map: FeatureMap,
        chunk: int | None,
    ) -> tuple[Tensor, Tensor]:
        batch, heads, _, width = key.shape
        features = feature_map.size(width)
        chunks = Chunks(key, heads, features, chunk)
        sums = key.new_zeros(batch * heads, features, value.shape[-1], dtype=chunks.dtype)
        totals = key.new_zeros(batch * heads, features, dtype=chunks.dtype)
        for part in chunks:
            phi = feature_map.forward(
                chunks.cut(key, part), chunks.positions(feature_map, part), _rows(shift), is_query=False
            )
            masked(phi, chunks.padding(mask, part))
            sums.baddbmm_(phi.transpose(1, 2), chunks.cut(value, part))
            totals.add_(phi.sum(dim=1))
        ctx.save_for_backward(key, value, shift, mask)
        ctx.feature_map, ctx.chunks = feature_map, chunks
        return sums.unflatten(0, (batch, heads)), totals.unflatten(0, (batch, heads))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, sums_gradient: Tensor, totals_gradient: Tensor) -> tuple[Tensor | None, ...]:
        key, value, shift, mask = ctx.saved_tensors
        feature_map, chunks = ctx.feature_map, ctx.chunks
        key_gradient, value_gradient = torch.empty_like(key), torch.empty_like(value)
        with full_precision(key):
            of_sums, of_totals = sums_gradient.flatten(0, 1), totals_gradient.flatten(0, 1).unsqueeze(1)
            for part in chunks:
                states, positions = chunks.cut(key, part), chunks.positions(feature_map, part)
                padding = chunks.padding(mask, part)
                phi = masked(feature_map.forward(states, positions, _rows(shift), is_query=False), padding)
                gradient = torch.bmm(chunks.cut(value, part), of_sums.transpose(1, 2)).add_(of_totals)
                write(value_gradient, part, torch.bmm(phi, of_sums))
                write(
                    key_gradient, part, feature_map.backward(states, phi, masked(gradient, padding), positions, False)
                )
        return key_gradient, value_gradient, None, None, None, None


class _Read(torch.autograd.Function):
    """query (B, H, N, D), S (B, K, F, E), z (B, K, F) -> values (B, H, N, E)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        sums: Tensor,
        totals: Tensor,
        shift: Tensor | None,
        feature_map: FeatureMap,
        dtype: torch.dtype,
        chunk: int | None,
        first: int,
    ) -> Tensor:
        chunks = Chunks(query, sums.shape[1], sums.shape[2], chunk, first=first)
        flat_sums, flat_totals = sums.flatten(0, 1), totals.flatten(0, 1).unsqueeze(1)
        values = like(query, sums.shape[-1], dtype)
        inverses = query.new_empty(*query.shape[:-1], 1, dtype=chunks.dtype)
        for part in chunks:
            positions = chunks.positions(feature_map, part, chunks.groups)
            phi = feature_map.forward(chunks.cut(query, part), positions, _rows(shift), is_query=True)
            # The row times the matrix: three times as fast as the matrix times the column.
            inverse = inverse_of(torch.bmm(flat_totals, phi.transpose(1, 2))).transpose(1, 2)
            write(inverses, part, inverse)
            write(values, part, torch.bmm(phi, flat_sums).mul_(inverse))
        ctx.save_for_backward(query, sums, totals, shift, values, inverses)
        ctx.feature_map, ctx.chunks = feature_map, chunks
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, sums, totals, shift, values, inverses = ctx.saved_tensors
        feature_map, chunks = ctx.feature_map, ctx.chunks
        query_gradient = torch.empty_like(query)
        with full_precision(query):
            flat_sums, flat_totals = sums.flatten(0, 1), totals.flatten(0, 1).unsqueeze(1)
            of_sums, of_totals = torch.zeros_like(flat_sums), torch.zeros_like(flat_totals)
            for part in chunks:
                states = chunks.cut(query, part)
                positions = chunks.positions(feature_map, part, chunks.groups)
                phi = feature_map.forward(states, positions, _rows(shift), is_query=True)
                of_values, of_norm = quotient_gradient(chunks, part, gradient, values, inverses)
                of_sums.baddbmm_(phi.transpose(1, 2), of_values)
                of_totals.baddbmm_(of_norm.transpose(1, 2), phi)
                of_phi = torch.bmm(of_values, flat_sums.transpose(1, 2)).addcmul_(of_norm, flat_totals)
                write(query_gradient, part, feature_map.backward(states, phi, of_phi, positions, is_query=True))
        return query_gradient, of_sums.view(sums.shape), of_totals.view(totals.shape), None, None, None, None, None


def quotient_gradient(
    chunks: Chunks, part: slice, gradient: Tensor, values: Tensor, inverses: Tensor
) -> tuple[Tensor, Tensor]:
    """Of o = n / d: the gradients of n, (R, GC, E), and of d, (R, GC, 1)."""
    of_values = chunks.cut(gradient, part) * chunks.cut(inverses, part)
    of_norm = (of_values * chunks.cut(values, part)).sum(dim=-1, keepdim=True).neg_()
    return of_values, of_norm
