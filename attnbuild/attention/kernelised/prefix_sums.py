"""Causal kernel attention: query i reads the sums over the keys j <= i (Katharopoulos et al. 2020, equations 9 to 12).

Between chunks goes a state, S = sum_j phi(k_j) v_j and z = sum_j phi(k_j) over the keys before; within a
chunk the masked products are formed. The backward pass computes features and products again; what is kept is of the
size of the inputs, and the F x E state that each chunk started from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.attention.kernelised.chunks import Chunks, like, masked, write
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.kernelised.kernel_sums import inverse_of, quotient_gradient
from attnbuild.attention.precision import full_precision

__all__ = ["attend_causally"]

#: 2 to more than 128 overflows in single precision; what is left is for sums.
_LARGEST_EXPONENT = 100.0


def attend_causally(
    feature_map: FeatureMap,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None,
    chunk: int | None = None,
) -> Tensor:
    """(B, H, N, D), (B, K, N, D), (B, K, N, E), (B, N) -> values (B, H, N, E); 0 where there was no key."""
    with full_precision(query):
        return _Causal.apply(query, key, value, key_padding_mask, feature_map, chunk)


class _Products(NamedTuple):
    """One chunk's queries and keys against each other.

    Attributes:
        query: (R, GC, D).
        key: (R, C, D).
        query_features: (R, GC, F).
        key_features: (R, C, F), 0 at padding.
        allowed: (R, GC, C), the products of those features, 0 where the key comes after the query.
    """

    query: Tensor
    key: Tensor
    query_features: Tensor
    key_features: Tensor
    allowed: Tensor


class _Inputs(NamedTuple):
    """What both passes read, cut by ``chunks``."""

    chunks: Chunks
    feature_map: FeatureMap
    query: Tensor
    key: Tensor
    mask: Tensor | None
    shifts: list[Tensor | None]

    def products(self, index: int, part: slice) -> _Products:
        chunks, shift = self.chunks, self.shifts[index]
        query, key = chunks.cut(self.query, part), chunks.cut(self.key, part)
        of_query = self.feature_map.forward(
            query, chunks.positions(self.feature_map, part, chunks.groups), shift, is_query=True
        )
        of_key = self.feature_map.forward(key, chunks.positions(self.feature_map, part), shift, is_query=False)
        masked(of_key, chunks.padding(self.mask, part))
        products = _keep_past(torch.bmm(of_query, of_key.transpose(1, 2)))
        return _Products(query, key, of_query, of_key, products)

    def decay(self, index: int) -> Tensor | None:
        """2^(shift - next shift), (R, 1, F): what a state is multiplied by at the end of its chunk."""
        now, then = self.shifts[index], self.shifts[index + 1] if index + 1 < len(self.shifts) else None
        return None if now is None or then is None else torch.exp2(now - then).unsqueeze(1)


def _keep_past(products: Tensor) -> Tensor:
    """(R, GC, C): 0 where the key comes after the query; overwrites."""
    length = products.shape[-1]
    products.view(products.shape[0], -1, length, length).tril_()
    return products


def _shifts(feature_map: FeatureMap, chunks: Chunks, key: Tensor, mask: Tensor | None) -> list[Tensor | None]:
    """The shift of each chunk, (R, F): from the keys that all of its queries see, and more where others overflow.

    What then lies far below is lost in single precision: a key 2^200 times as small as a later one of its chunk.
    """
    if not feature_map.shifted:
        return [None for _ in chunks]
    shifts: list[Tensor | None] = []
    past: Tensor | None = None
    for part in chunks:
        exponents = feature_map.exponents(chunks.cut(key, part))
        masked(exponents, chunks.padding(mask, part), -torch.inf)
        first, largest = exponents[:, 0], exponents.amax(dim=1)
        shift = torch.maximum(first if past is None else torch.maximum(past, first), largest - _LARGEST_EXPONENT)
        # Where no key has come yet, finite: any shift serves, and a low one lets the empty state grow no more.
        shifts.append(shift.clamp_(min=torch.finfo(shift.dtype).min / 2))
        past = largest if past is None else torch.maximum(past, largest)
    return shifts


class _Causal(torch.autograd.Function):
    """The chunks one after the other; backward in reverse, with the gradient of the state they hand on."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        feature_map: FeatureMap,
        chunk: int | None,
    ) -> Tensor:
        heads, features, width = key.shape[1], feature_map.size(key.shape[-1]), value.shape[-1]
        chunks = Chunks(query, heads, features, chunk, causal=True)
        inputs = _Inputs(chunks, feature_map, query, key, mask, _shifts(feature_map, chunks, key, mask))
        sums = key.new_zeros(key.shape[0] * heads, features, width, dtype=chunks.dtype)
        totals = key.new_zeros(key.shape[0] * heads, 1, features, dtype=chunks.dtype)
        values = like(query, width, value.dtype)
        inverses = query.new_empty(*query.shape[:-1], 1, dtype=chunks.dtype)
        keeps, states = any(ctx.needs_input_grad), []
        for index, part in enumerate(chunks):
            products, cut_value = inputs.products(index, part), chunks.cut(value, part)
            if keeps:
                states += [sums.clone(), totals.clone()]
            numerator = torch.bmm(products.allowed, cut_value).baddbmm_(products.query_features, sums)
            # The row times the matrix: three times as fast as the matrix times the column.
            norm = torch.bmm(totals, products.query_features.transpose(1, 2)).transpose(1, 2)
            inverse = inverse_of(norm.add_(products.allowed.sum(dim=-1, keepdim=True)))
            write(inverses, part, inverse)
            write(values, part, numerator.mul_(inverse))
            sums.baddbmm_(products.key_features.transpose(1, 2), cut_value)
            totals.add_(products.key_features.sum(dim=1, keepdim=True))
            decay = inputs.decay(index)
            if decay is not None:
                sums.mul_(decay.transpose(1, 2))
                totals.mul_(decay)
        ctx.save_for_backward(query, key, value, mask, values, inverses, *states)
        ctx.feature_map, ctx.chunks, ctx.shifts = feature_map, chunks, inputs.shifts
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, values, inverses, *states = ctx.saved_tensors
        chunks, feature_map = ctx.chunks, ctx.feature_map
        inputs = _Inputs(chunks, feature_map, query, key, mask, ctx.shifts)
        query_gradient, key_gradient, value_gradient = (torch.empty_like(tensor) for tensor in (query, key, value))
        with full_precision(query):
            of_sums, of_totals = torch.zeros_like(states[0]), torch.zeros_like(states[1])
            for index, part in reversed(list(enumerate(chunks))):
                (sums, totals), products = states[2 * index : 2 * index + 2], inputs.products(index, part)
                of_query, of_key = products.query_features, products.key_features
                decay = inputs.decay(index)
                if decay is not None:
                    of_sums.mul_(decay.transpose(1, 2))
                    of_totals.mul_(decay)
                cut_value = chunks.cut(value, part)
                of_values, of_norm = quotient_gradient(chunks, part, gradient, values, inverses)

                given = torch.bmm(products.allowed.transpose(1, 2), of_values).baddbmm_(of_key, of_sums)
                write(value_gradient, part, given)
                of_products = _keep_past(torch.bmm(of_values, cut_value.transpose(1, 2)).add_(of_norm))
                given = torch.bmm(of_products.transpose(1, 2), of_query)
                given.baddbmm_(cut_value, of_sums.transpose(1, 2)).add_(of_totals)
                masked(given, chunks.padding(mask, part))
                into_query = torch.bmm(of_products, of_key).baddbmm_(of_values, sums.transpose(1, 2))
                into_query.addcmul_(of_norm, totals)

                of_sums.baddbmm_(of_query.transpose(1, 2), of_values)
                of_totals.baddbmm_(of_norm.transpose(1, 2), of_query)
                positions = chunks.positions(feature_map, part)
                write(key_gradient, part, feature_map.backward(products.key, of_key, given, positions, is_query=False))
                positions = chunks.positions(feature_map, part, chunks.groups)
                write(
                    query_gradient,
                    part,
                    feature_map.backward(products.query, of_query, into_query, positions, is_query=True),
                )
        return query_gradient, key_gradient, value_gradient, None, None, None
