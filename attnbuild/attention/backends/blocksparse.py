"""Only the keys that a pattern shows: exact softmax attention in time and memory O(N x keys seen), on any device.

The pattern's tiles are walked twice. Forward keeps for each query the running value and log-sum-exp of the keys
seen so far (Rabe and Staats 2021; Dao et al. 2022, algorithm 1). Backward computes the scores of each tile again:
with the final log-sum-exp, the weights of a tile are exp(score - lse), whatever the other tiles held, so each
tile's share of the gradients stands alone (Dao et al. 2022, algorithm 4). Keys are read through strides, and
gradients added where they belong, so nothing of the size of the sequence is copied.

Letters: Z = B x K x groups, the products of one kernel call; g query heads a key head; n queries and m keys a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.attention.backends.base import Answer, Call, Need
from attnbuild.attention.backends.plan import PlannedTile, make_plan
from attnbuild.attention.patterns.pieces import Grid, Tile
from attnbuild.attention.precision import full_precision
from attnbuild.attention.weightings.softmax import Softmax

__all__ = ["refusal", "run"]

#: Scores of one chunk: on CPU they stay in the cache of two cores, elsewhere they fill the device.
CHUNK = {"cpu": 1 << 18}
LARGE_CHUNK = 1 << 24


def refusal(need: Need) -> str | None:
    """Why this attention cannot be computed by its blocks; None when it can."""
    parts = need.parts
    if not parts.score.dot_like:
        return "it multiplies query and key, and the score is no product of them"
    if type(parts.weighting) is not Softmax:
        return "it merges groups of keys by their log-sum-exp, and the weighting is not softmax"
    if need.place.cross or not parts.pattern.sparse:
        return "every query may see every key"
    if need.queries is not None and need.queries != need.keys:
        return "the queries are not the whole sequence"
    return None


def run(call: Call) -> Answer:
    """Softmax attention over the pattern's tiles."""
    query, key, value = call.query.to(call.value.dtype), call.key.to(call.value.dtype), call.value
    padding = call.key_padding_mask
    if padding is not None and padding.device.type == "cpu" and not padding.any():
        padding = None
    # A seed from the global generator: runs repeat, and backward draws again what forward drew.
    seed = int(torch.randint(1 << 62, (), device="cpu")) if call.dropout else 0
    job = _Job(call, padding, seed)
    with full_precision(query):
        return Answer(_BlockSparse.apply(job, query, key, value, *job.bias_parameters))


@dataclass(frozen=True)
class _Chunk:
    """Some groups of a tile in some rows of the batch, for query heads that share their key heads' layout."""

    planned: PlannedTile
    tile: Tile
    rows: slice
    heads: slice
    kv_heads: slice


class _Job:
    """One call, as both directions need it; holds none of its large tensors."""

    def __init__(self, call: Call, padding: Tensor | None, seed: int) -> None:
        self.padding, self.seed, self.dropout = padding, seed, call.dropout
        self.position, self.scale = call.parts.position, call.parts.score.scale
        self.batch, self.heads, self.length, self.width = call.query.shape
        self.kv_heads, self.device = call.key.shape[1], call.query.device
        #: Sums of exponentials need fp32 at least.
        self.dtype = torch.promote_types(call.value.dtype, torch.float32)
        self.plan = make_plan(call.parts.pattern.pieces(), self.length, call.place.causal, self.heads, self.device)
        #: A position computes as it would under the other backends.
        self.autocast = _autocast_here(self.device)
        self.biased = self.position.has_bias
        self.bias_parameters = [p for p in self.position.parameters() if p.requires_grad] if self.biased else []

    def chunks(self) -> Iterator[_Chunk]:
        """All of the work, in pieces of about the size that runs best."""
        budget = CHUNK.get(self.device.type, LARGE_CHUNK)
        for planned in self.plan.tiles:
            for heads, kv_heads in self._head_slices(planned):
                tile = planned.tile
                # Keys that are gathered, and not seen through strides, fill the cache too.
                gathered = 0 if isinstance(tile.key, Grid) else tile.keys * self.width // 8
                area = max(tile.query.count * tile.keys, gathered) * len(range(self.heads)[heads])
                rows = max(1, min(self.batch, budget // area))
                groups = max(1, budget // (area * rows))
                for row in range(0, self.batch, rows):
                    for first in range(0, tile.query.groups, groups):
                        part = tile.part(first, min(groups, tile.query.groups - first))
                        yield _Chunk(planned, part, slice(row, row + rows), heads, kv_heads)

    def _head_slices(self, planned: PlannedTile) -> Iterator[tuple[slice, slice]]:
        """Query heads and their key heads: all at once where each key head has as many of the query heads."""
        first, step = planned.piece.heads
        shared = self.heads // self.kv_heads
        by_head = isinstance(planned.tile.key, Tensor) and planned.tile.key.dim() == 3
        if shared == 1 or (step == 1 and not by_head):
            yield slice(first, None, step), slice(first if shared == 1 else 0, None, step)
            return
        for head in range(first, self.heads, step):
            yield slice(head, head + 1), slice(head // shared, head // shared + 1)

    def queries(self, chunk: _Chunk, tensor: Tensor) -> Tensor:
        """What of (B, H, N, D) belongs to the chunk's queries: (Z, g n, D)."""
        view = chunk.tile.query.view(tensor[chunk.rows, chunk.heads])
        kv_heads = len(range(self.kv_heads)[chunk.kv_heads])
        view = view.unflatten(1, (kv_heads, -1)).transpose(2, 3)
        return view.reshape(-1, view.shape[3] * view.shape[4], view.shape[5])

    def to_queries(self, chunk: _Chunk, products: Tensor, like: Tensor) -> Tensor:
        """(Z, g n, D) as (b, h, groups, n, D), the shape of the view ``like``."""
        batch, heads, groups, rows, _ = like.shape
        kv_heads = len(range(self.kv_heads)[chunk.kv_heads])
        parted = products.view(batch, kv_heads, groups, heads // kv_heads, rows, -1)
        return parted.transpose(2, 3).reshape(batch, heads, groups, rows, -1)

    def keys(self, chunk: _Chunk, tensor: Tensor) -> Tensor:
        """What of (B, K, S, D) belongs to the chunk's keys: (Z, m, D)."""
        key = chunk.tile.key
        if isinstance(key, Grid):
            return key.view(tensor[chunk.rows, chunk.kv_heads]).flatten(0, 2)
        rows, position, head = _as_rows(tensor[chunk.rows])
        index = self._row_index(chunk, key, position, head)
        return rows.index_select(1, index.flatten()).view(-1, index.shape[-1], tensor.shape[-1])

    def add_to_keys(self, chunk: _Chunk, total: Tensor, gradient: Tensor) -> None:
        """Adds (Z, m, D) to where the chunk's keys are in (B, K, S, D)."""
        key, groups = chunk.tile.key, chunk.tile.query.groups
        if not isinstance(key, Grid):
            rows, position, head = _as_rows(total[chunk.rows])
            index = self._row_index(chunk, key, position, head).flatten()
            rows.index_add_(1, index, gradient.view(len(rows), len(index), -1))
            return
        part = total[chunk.rows, chunk.kv_heads]
        gradient = gradient.view(*part.shape[:2], groups, *gradient.shape[1:])
        if key.disjoint:
            key.view(part).add_(gradient)
            return
        for group in range(groups):
            key.part(group, 1).view(part).add_(gradient[:, :, group : group + 1])

    def _row_index(self, chunk: _Chunk, key: Tensor, position: int, head: int) -> Tensor:
        """Where the keys are among rows with these distances between positions and heads: (k, groups, m)."""
        heads = torch.arange(self.kv_heads, device=key.device)[chunk.kv_heads].view(-1, 1, 1)
        key = key[chunk.heads] if key.dim() == 3 else key
        return key.clamp(min=0) * position + heads * head

    def scores(self, chunk: _Chunk, query: Tensor, key: Tensor, whole_query: Tensor) -> Tensor:
        """Masked scores of (Z, g n, D), scaled, and (Z, m, D): (Z, g n, m)."""
        scores = torch.bmm(query, key.transpose(1, 2))
        view = self._by_head(chunk, scores)
        if self.biased:
            bias = self.bias(chunk, chunk.tile.query.view(whole_query[chunk.rows]))
            view += self._sharing(chunk, bias.to(self.dtype))
        mask = chunk.planned.additive(chunk.tile, range(self.heads)[chunk.heads], self.dtype, self.device)
        if mask is not None:
            view[..., chunk.planned.columns].add_(self._sharing(chunk, mask.unsqueeze(0)))
        if self.padding is not None:
            view.masked_fill_(self._padding(chunk), -torch.inf)
        return scores

    def _by_head(self, chunk: _Chunk, scores: Tensor) -> Tensor:
        """(Z, g n, m) as (b, k, groups, g, n, m)."""
        rows, kv_heads = len(range(self.batch)[chunk.rows]), len(range(self.kv_heads)[chunk.kv_heads])
        query = chunk.tile.query
        return scores.view(rows, kv_heads, query.groups, -1, query.count, scores.shape[-1])

    def _sharing(self, chunk: _Chunk, tensor: Tensor) -> Tensor:
        """(b or 1, h or 1, groups or 1, n, m) as (b or 1, k or 1, groups or 1, g or 1, n, m)."""
        if tensor.shape[1] == 1:
            return tensor.unsqueeze(3)
        kv_heads = len(range(self.kv_heads)[chunk.kv_heads])
        return tensor.unflatten(1, (kv_heads, -1)).transpose(2, 3)

    def _padding(self, chunk: _Chunk) -> Tensor:
        """(b, k or 1, groups, 1, 1, m)."""
        assert self.padding is not None
        key = chunk.tile.key_positions(self.device)
        key = key[chunk.heads] if key.dim() == 3 else key.unsqueeze(0)
        return self.padding[chunk.rows][:, key.clamp(min=0)].unsqueeze(3).unsqueeze(3)

    def bias(self, chunk: _Chunk, query: Tensor) -> Tensor:
        """What the position adds to the scores of (b, H, groups, n, D): (b or 1, h, groups, n, m)."""
        positions = chunk.tile.query.positions(self.device)
        key, scaled = chunk.tile.key_positions(self.device), query * self.scale
        if key.dim() == 2:
            return self._bias(scaled, positions, key)[:, chunk.heads]
        heads = range(self.heads)[chunk.heads]
        return torch.stack([self._bias(scaled, positions, key[head])[:, head] for head in heads], dim=1)

    def _bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """For all heads, (b or 1, H, groups, n, m)."""
        with self.autocast():
            bias = self.position.bias(query, query_positions, key_positions)
        assert bias is not None
        return bias.expand(-1, self.heads, -1, -1, -1)

    def kept(self, generator: torch.Generator | None, like: Tensor) -> Tensor | None:
        """Which weights are kept, times what makes up for those dropped; None = all."""
        if generator is None:
            return None
        share = 1 - self.dropout
        return torch.empty_like(like).bernoulli_(share, generator=generator).div_(share)

    def generator(self) -> torch.Generator | None:
        """The same numbers each time it is asked for."""
        return torch.Generator(self.device).manual_seed(self.seed) if self.dropout else None


class _BlockSparse(torch.autograd.Function):
    """(job, query, key, value, parameters of the position) -> values."""

    @staticmethod
    def forward(ctx, job: _Job, query: Tensor, key: Tensor, value: Tensor, *parameters: Tensor) -> Tensor:
        output = _zeros(query, value.shape[-1], job.dtype)
        lse = query.new_full((*query.shape[:3], 1), -torch.inf, dtype=job.dtype)
        generator = job.generator()
        for chunk in job.chunks():
            scaled = job.queries(chunk, query).to(job.dtype) * job.scale
            scores = job.scores(chunk, scaled, job.keys(chunk, key).to(job.dtype), query)
            values, sums = _softmax_times(scores, job.keys(chunk, value).to(job.dtype), job.kept(generator, scores))
            _merge(job, chunk, output, lse, values, sums)
        ctx.job = job
        output = output.to(value.dtype)
        ctx.save_for_backward(query, key, value, output, lse)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        job = ctx.job
        with full_precision(gradient):
            return None, *_backward(job, gradient, *ctx.saved_tensors)


def _softmax_times(scores: Tensor, value: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor]:
    """Values (Z, g n, Dv) and log-sum-exps (Z, g n, 1) of (Z, g n, m) scores, which are overwritten."""
    # Where all is masked the maximum is -inf: the lowest number keeps the difference -inf and not NaN.
    top = scores.amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)
    weights = scores.sub_(top).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    if kept is not None:
        weights *= kept
    values = torch.bmm(weights, value).div_(total.clamp(min=torch.finfo(scores.dtype).tiny))
    return values, total.log_().add_(top)


def _merge(job: _Job, chunk: _Chunk, output: Tensor, lse: Tensor, values: Tensor, sums: Tensor) -> None:
    """Brings a chunk's values and log-sum-exps together with what its queries saw before."""
    seen = chunk.tile.query.view(output[chunk.rows, chunk.heads])
    seen_sums = chunk.tile.query.view(lse[chunk.rows, chunk.heads])
    values, sums = job.to_queries(chunk, values, seen), job.to_queries(chunk, sums, seen)
    if chunk.planned.fresh:
        seen.copy_(values)
        seen_sums.copy_(sums)
        return
    merged = torch.logaddexp(seen_sums, sums)
    finite = merged.clamp(min=torch.finfo(merged.dtype).min)
    seen.mul_((seen_sums - finite).exp()).add_(values.mul_((sums - finite).exp()))
    seen_sums.copy_(merged)


def _backward(
    job: _Job, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of query, key, value and the position's parameters."""
    grad_query, grad_key = _zeros(query, query.shape[-1], job.dtype), _zeros(key, key.shape[-1], job.dtype)
    grad_value = _zeros(value, value.shape[-1], job.dtype)
    grad_bias = [torch.zeros_like(parameter) for parameter in job.bias_parameters]
    delta = _row_products(gradient, output, job.dtype)
    # Queries without a key: exp(-inf - inf) = 0.
    lse = lse.masked_fill(lse == -torch.inf, torch.inf)
    generator = job.generator()
    for chunk in job.chunks():
        scaled = job.queries(chunk, query).to(job.dtype) * job.scale
        keys, values = job.keys(chunk, key).to(job.dtype), job.keys(chunk, value).to(job.dtype)
        arriving = job.queries(chunk, gradient).to(job.dtype)
        weights = job.scores(chunk, scaled, keys, query).sub_(job.queries(chunk, lse)).exp_()
        grad_scores = torch.bmm(arriving, values.transpose(1, 2))
        kept = job.kept(generator, weights)
        if kept is None:
            job.add_to_keys(chunk, grad_value, torch.bmm(weights.transpose(1, 2), arriving))
        else:
            grad_scores *= kept
            job.add_to_keys(chunk, grad_value, torch.bmm((weights * kept).transpose(1, 2), arriving))
        grad_scores.sub_(job.queries(chunk, delta)).mul_(weights)
        job.add_to_keys(chunk, grad_key, torch.bmm(grad_scores.transpose(1, 2), scaled))
        view = chunk.tile.query.view(grad_query[chunk.rows, chunk.heads])
        view.add_(job.to_queries(chunk, torch.bmm(grad_scores, keys), view), alpha=job.scale)
        if job.biased:
            _add_bias_gradients(job, chunk, query, grad_scores, grad_query, grad_bias)
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype), *grad_bias


def _add_bias_gradients(
    job: _Job, chunk: _Chunk, query: Tensor, grad_scores: Tensor, grad_query: Tensor, grad_bias: list[Tensor]
) -> None:
    """Through what the position made of the queries and of its parameters: computed again, with a graph."""
    with torch.enable_grad():
        part = chunk.tile.query.view(query[chunk.rows]).detach().requires_grad_()
        bias = job.bias(chunk, part)
        if not bias.requires_grad:
            return
        arriving = job._by_head(chunk, grad_scores).transpose(2, 3).flatten(1, 2).sum_to_size(bias.shape)
        inputs = [part, *job.bias_parameters]
        found = torch.autograd.grad(bias, inputs, arriving.to(bias.dtype), allow_unused=True)
    for total, gradient in zip([chunk.tile.query.view(grad_query[chunk.rows]), *grad_bias], found, strict=True):
        if gradient is not None:
            total += gradient


def _row_products(gradient: Tensor, output: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums over the width of gradient x output, (B, H, N, 1); a head at a time, or it would be a copy of both."""
    rows = [
        (gradient[:, head].to(dtype) * output[:, head]).sum(dim=-1, keepdim=True) for head in range(output.shape[1])
    ]
    return torch.stack(rows, dim=1)


def _as_rows(tensor: Tensor) -> tuple[Tensor, int, int]:
    """(B, K, S, D) as rows (B, K S, D), and how many rows lie between two positions and between two heads."""
    _, heads, length, _ = tensor.shape
    by_position = tensor.transpose(1, 2)
    if by_position.is_contiguous():
        return by_position.flatten(1, 2), heads, 1
    return tensor.flatten(1, 2), 1, length


def _zeros(like: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """(B, H, N, width), with the heads of a position side by side, as projections give and take them."""
    batch, heads, length, _ = like.shape
    return like.new_zeros((batch, length, heads, width), dtype=dtype).transpose(1, 2)


def _autocast_here(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Makes contexts with the autocast of this moment, for parts of what is computed without any.

    A cast of a parameter made without a graph would be kept for later, and its gradient lost: so none is kept.
    """
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return nullcontext
    return partial(torch.autocast, kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
