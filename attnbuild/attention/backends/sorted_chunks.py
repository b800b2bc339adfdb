"""Softmax attention within sorted chunks, over the union of several orders: forward and backward.

Shape letters: B rows, H heads, K value heads, R rounds, N positions, D width. Sorted, the N places of a head are
filled up to C chunks of M, and P heads stand one after the other as G = P x C chunks. All of it is done for a few
heads at a time, so that what has the size of the scores stays small, and the backward computes the scores again:
what is kept is linear in the length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.attention.precision import full_precision

__all__ = ["Order", "attend", "sort", "unit_keys"]

#: Norms below it count as it; fp16 has no room for torch's 1e-12, and a zero vector would give NaN.
_SMALLEST_NORM = 1e-6
#: Scores held at a time: few enough to stay in a CPU's cache, enough to fill another device.
_SCORES_AT_A_TIME = {"cpu": 2**19}
_SCORES_AT_A_TIME_ELSEWHERE = 2**25


@dataclass
class Order:
    """Where positions stand in the sorted order of each round.

    Attributes:
        position: (B, H, R, N), the position that stands at each place.
        place: (B, H, R, N), the place of each position.
        chunk: (B, H, R, N), the chunk of each position.
        real: (B,), how many positions are no padding; None = all. They stand first.
        chunk_len: places of a chunk.
    """

    position: Tensor
    place: Tensor
    chunk: Tensor
    real: Tensor | None
    chunk_len: int


def sort(buckets: Tensor, key_padding_mask: Tensor | None, count: int, chunk_len: int) -> Order:
    """Sort by bucket, then by position; padding last.

    Args:
        buckets: (B, H, R, N), in 0 .. count - 1.
        key_padding_mask: (B, N), True = padding, or None.
        count: number of buckets.
        chunk_len: places of a chunk.
    """
    real = None
    if key_padding_mask is not None:
        buckets = buckets.masked_fill(key_padding_mask[:, None, None, :], count)
        real = (~key_padding_mask).sum(dim=1)
    # Small numbers sort faster; a stable sort keeps positions in order within a bucket.
    position = buckets.to(torch.int16 if count < 2**15 else torch.int64).sort(dim=-1, stable=True).indices
    places = torch.arange(position.shape[-1], device=position.device).expand_as(position)
    place = torch.empty_like(position).scatter_(-1, position, places)
    chunk = place // chunk_len
    # Half the width is half the work where keys seen before are looked for; differences must fit.
    small = position.shape[-1] // chunk_len < 2**14
    return Order(position, place, chunk.to(torch.int16 if small else torch.int32), real, chunk_len)


def unit_keys(query: Tensor) -> Tensor:
    """Queries as keys: the same vectors at unit length."""
    return F.normalize(query, dim=-1, eps=_SMALLEST_NORM)


def attend(query: Tensor, value: Tensor, order: Order, scale: float) -> Tensor:
    """Each position attends to all that stand in its chunk or the one before in any round, once each.

    Args:
        query: (B, H, N, D); its unit vectors are the keys.
        value: (B, K, N, Dv); K divides H.
        order: from ``sort``.
        scale: factor of the product.

    Returns:
        (B, H, N, Dv); a position that sees no other has its own value, padding has 0.
    """
    values: Tensor = _Attend.apply(query, value, order, scale)
    return values


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, value: Tensor, order: Order, scale: float) -> Tensor:
        with full_precision(query):
            output, log_sum = _forward(query, value, order, scale)
        ctx.save_for_backward(query, value, output, log_sum)
        ctx.order, ctx.scale = order, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        query, value, output, log_sum = ctx.saved_tensors
        with full_precision(query):
            gradients = _backward(query, value, output, log_sum, gradient, ctx.order, ctx.scale)
        return *gradients, None, None


def _forward(query: Tensor, value: Tensor, order: Order, scale: float) -> tuple[Tensor, Tensor]:
    """values (B, H, N, Dv) and the log of the sum of exponentials (B, H, N, 1); -inf where nothing else is seen."""
    precision = torch.promote_types(query.dtype, torch.float32)
    output = _heads_last(query, value.shape[-1], query.dtype)
    log_sum = _heads_last(query, 1, precision)
    for part in _Part.parts(query, value, order, scale):
        rounds = []
        for number in range(order.position.shape[2]):
            seen = part.round(number)
            scores = seen.scores()
            top = scores.amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(precision).min)
            weights = scores.sub_(top).exp_()
            mixed = weights.to(value.dtype) @ seen.windows(part.value)
            rounds.append([seen.unsort(x.to(precision)) for x in (mixed, weights.sum(dim=-1, keepdim=True), top)])
        top = torch.stack([highest for _, _, highest in rounds]).amax(dim=0)
        total, values = torch.zeros_like(top), torch.zeros_like(rounds[0][0])
        for mixed, summed, highest in rounds:
            factor = (highest - top).exp_()
            total.addcmul_(summed, factor)
            values.addcmul_(mixed, factor)
        alone = total == 0
        values = torch.where(alone, part.value.to(precision), values.div_(total.masked_fill(alone, 1.0)))
        part.put(output, part.without_padding(values))
        part.put(log_sum, top.add_(total.log_()))
    return output, log_sum


def _backward(
    query: Tensor, value: Tensor, output: Tensor, log_sum: Tensor, gradient: Tensor, order: Order, scale: float
) -> tuple[Tensor, Tensor]:
    """Gradients of query and value."""
    precision = torch.promote_types(query.dtype, torch.float32)
    query_gradient = _heads_last(query, query.shape[-1], query.dtype)
    groups = query.shape[1] // value.shape[1]
    value_gradient = _heads_last(query, value.shape[-1], value.dtype if groups == 1 else precision)
    for part in _Part.parts(query, value, order, scale):
        # Padding answers nothing, so it learns nothing.
        asked = part.without_padding(part.take(gradient).to(value.dtype))
        log_sums = part.take(log_sum)
        shift = (asked.to(precision) * part.take(output)).sum(dim=-1, keepdim=True)
        alone = log_sums == -torch.inf
        of_value = asked.masked_fill(~alone, 0.0).to(precision)
        asked, log_sums = asked.masked_fill(alone, 0.0), log_sums.masked_fill(alone, 0.0)
        of_query = torch.zeros(part.query.shape, dtype=precision, device=query.device)
        of_key = torch.zeros_like(of_query)
        for number in range(order.position.shape[2]):
            seen = part.round(number)
            weights = seen.scores().sub_(seen.chunks(log_sums)).exp_()
            mine = seen.chunks(asked)
            of_value += seen.unsort(_overlap(weights.to(value.dtype).transpose(-2, -1) @ mine, precision))
            change = (mine @ seen.windows(part.value).transpose(-2, -1)).to(precision)
            narrow = change.sub_(seen.chunks(shift)).mul_(weights).to(query.dtype)
            of_query += seen.unsort((narrow @ seen.keys).to(precision))
            of_key += seen.unsort(_overlap(narrow.transpose(-2, -1) @ seen.queries, precision))
        part.put(query_gradient, of_query.add_(part.through_unit_length(of_key)))
        part.put(value_gradient, of_value)
    if groups > 1:
        value_gradient = value_gradient.unflatten(1, (-1, groups)).sum(dim=2).to(value.dtype)
    return query_gradient, value_gradient


class _Part:
    """Some heads of one batch row, or all heads of some, P in all: what the rounds share.

    Attributes:
        query: (P, N, D).
        value: (P, N, Dv).
        factor: (P, N, 1), what makes a query a scaled unit key.
        real: (P, 1), how many positions are no padding; None = all.
        first: (P, 1), the numbers of the heads.
    """

    def __init__(self, query: Tensor, value: Tensor, order: Order, scale: float, rows: slice, heads: slice) -> None:
        self.rows, self.heads, self.order, self.scale = rows, heads, order, scale
        self.query = self.take(query)
        groups = query.shape[1] // value.shape[1]
        shared = torch.arange(heads.start, heads.stop, device=query.device) // groups
        self.value = self.take(value) if groups == 1 else value[rows].index_select(1, shared).flatten(0, 1)
        norm = self.query.norm(dim=-1, keepdim=True, dtype=torch.promote_types(query.dtype, torch.float32))
        self.turns = norm > _SMALLEST_NORM
        self.factor = norm.clamp_(min=_SMALLEST_NORM).reciprocal_().mul_(scale)
        self.real = None
        if order.real is not None:
            self.real = order.real[rows].repeat_interleave(heads.stop - heads.start).unsqueeze(1)
        self.first = torch.arange(self.query.shape[0], device=query.device).unsqueeze(1)

    @classmethod
    def parts(cls, query: Tensor, value: Tensor, order: Order, scale: float) -> Iterator[_Part]:
        batch, heads, length, _ = query.shape
        limit = _SCORES_AT_A_TIME.get(query.device.type, _SCORES_AT_A_TIME_ELSEWHERE)
        at_a_time = max(1, limit // (2 * order.chunk_len * max(length, order.chunk_len)))
        height, width = max(1, at_a_time // heads), min(heads, at_a_time)
        for row in range(0, batch, height):
            for head in range(0, heads, width):
                rows = slice(row, min(row + height, batch))
                yield cls(query, value, order, scale, rows, slice(head, min(head + width, heads)))

    def take(self, tensor: Tensor) -> Tensor:
        """(B, H, N, ...) -> (P, N, ...)."""
        return tensor[self.rows, self.heads].flatten(0, 1).contiguous()

    def put(self, tensor: Tensor, part: Tensor) -> None:
        tensor[self.rows, self.heads] = part.unflatten(0, (-1, self.heads.stop - self.heads.start))

    def without_padding(self, tensor: Tensor) -> Tensor:
        """0 at padding, (P, N, D)."""
        if self.real is None:
            return tensor
        return tensor.masked_fill((self.take(self.order.place[:, :, 0]) >= self.real).unsqueeze(-1), 0.0)

    def through_unit_length(self, gradient: Tensor) -> Tensor:
        """The gradient of keys, (P, N, D), as one of the queries that they are made of."""
        unit = self.query * (self.factor / self.scale)
        radial = (unit * gradient).sum(dim=-1, keepdim=True).mul_(self.turns)
        return gradient.sub(unit * radial).mul_(self.factor)

    def round(self, number: int) -> _Round:
        return _Round(self, number)


class _Round:
    """One sorted order of a part.

    Attributes:
        queries: (G, M, D).
        keys: (G, 2M, D), those of the chunk before and of the chunk itself; a head's first chunk has one before it
            that is masked.
    """

    def __init__(self, part: _Part, number: int) -> None:
        self.part, self.number, self.chunk_len = part, number, part.order.chunk_len
        length = part.query.shape[1]
        self.excess = -length % self.chunk_len
        position = part.take(part.order.position[:, :, number]) + part.first * length
        place = part.take(part.order.place[:, :, number]) + part.first * (length + self.excess)
        # What fills up the last chunk, and the chunk before the first, may be any position: it is masked.
        self.index = F.pad(F.pad(position, (0, self.excess)).flatten(), (self.chunk_len, 0))
        self.back = place.flatten()
        before = self._select(part.query)
        self.queries = before[self.chunk_len :].unflatten(0, (-1, self.chunk_len))
        # The factor in full precision: that of a vector near zero is too large for fp16.
        self.keys = self._window((before * self._select(part.factor)).to(before.dtype))

    def chunks(self, tensor: Tensor) -> Tensor:
        """(P, N, D) -> (G, M, D)."""
        sorted_ = tensor.flatten(0, 1).index_select(0, self.index[self.chunk_len :])
        return sorted_.unflatten(0, (-1, self.chunk_len))

    def windows(self, tensor: Tensor) -> Tensor:
        """(P, N, D) -> (G, 2M, D)."""
        return self._window(self._select(tensor))

    def unsort(self, tensor: Tensor) -> Tensor:
        """(G, M, D) -> (P, N, D)."""
        return tensor.flatten(0, 1).index_select(0, self.back).unflatten(0, (self.part.query.shape[0], -1))

    def scores(self) -> Tensor:
        """(G, M, 2M); -inf where a key is no key: the position itself, padding, and what an earlier round saw."""
        scores = (self.queries @ self.keys.transpose(-2, -1)).to(self.part.factor.dtype)
        seen = self._seen_before()
        if seen is not None:
            scores.masked_fill_(seen, -torch.inf)
        scores.diagonal(offset=self.chunk_len, dim1=-2, dim2=-1).fill_(-torch.inf)
        by_head = scores.unflatten(0, (self.part.query.shape[0], -1))
        by_head[:, 0, :, : self.chunk_len] = -torch.inf
        if self.part.real is not None:
            first = torch.arange(by_head.shape[1], device=scores.device).view(-1, 1, 1) - 1
            place = first * self.chunk_len + torch.arange(2 * self.chunk_len, device=scores.device)
            by_head.masked_fill_(place >= self.part.real[:, :, None, None], -torch.inf)
        if self.excess:
            # What fills up the last chunk neither answers nor asks: asking, it would teach keys in the backward.
            by_head[:, -1, :, -self.excess :] = -torch.inf
            by_head[:, -1, -self.excess :] = -torch.inf
        return scores

    def _seen_before(self) -> Tensor | None:
        """The pairs whose chunks met in an earlier round, (G, M, 2M); None in the first.

        A key that was seen in n rounds must count once: to leave it out of all but one is the same as to subtract
        log n in each, and half the work.
        """
        seen: Tensor | None = None
        for earlier in range(self.number):
            chunk = self.part.take(self.part.order.chunk[:, :, earlier])
            other = self._select(chunk.unsqueeze(-1))
            mine = other[self.chunk_len :].unflatten(0, (-1, self.chunk_len))
            # Halved and rounded down, the differences that mean a meeting, 0 and 1, and no others, become 0.
            met = (mine - self._window(other).transpose(-2, -1)).bitwise_right_shift_(1) == 0
            seen = met if seen is None else seen.logical_or_(met)
        return seen

    def _select(self, tensor: Tensor) -> Tensor:
        """(P, N, D) -> (M + G x M, D), with room for the chunk before the first."""
        return tensor.flatten(0, 1).index_select(0, self.index)

    def _window(self, sorted_: Tensor) -> Tensor:
        """(M + G x M, D) -> (G, 2M, D), overlapping views."""
        width = sorted_.shape[-1]
        count = sorted_.shape[0] // self.chunk_len - 1
        return sorted_.as_strided((count, 2 * self.chunk_len, width), (self.chunk_len * width, width, 1))


def _overlap(windows: Tensor, dtype: torch.dtype) -> Tensor:
    """What windows of two chunks, (G, 2M, D), add up to for each chunk, (G, M, D)."""
    before, own = windows.to(dtype).chunk(2, dim=1)
    total = own.clone()
    total[:-1] += before[1:]
    return total


def _heads_last(like: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, N, width), laid out so that merging the heads copies nothing."""
    batch, heads, length, _ = like.shape
    return torch.empty(batch, length, heads, width, dtype=dtype, device=like.device).transpose(1, 2)
