"""FlexAttention: the pattern's predicate compiled into one kernel (Dong et al. 2024, arXiv 2412.05496).

Lengths are rounded up to whole blocks, so that few masks serve all of them; a mask is made from the pattern's
tiles, once for each pattern, rounded length and device, and shared by all layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild.attention.backends.base import Answer, Call, Need
from attnbuild.attention.backends.plan import make_plan
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Piece
from attnbuild.attention.positions.base import Position
from attnbuild.attention.weightings.softmax import Softmax

__all__ = ["compilations", "refusal", "run"]

#: Rows and columns of a block of the mask, and what lengths are rounded up to.
BLOCK = 128
#: More compilations than a run with a few lengths and patterns needs; each takes tens of seconds.
MANY = 6

_compilations = 0


def compilations() -> int:
    """How often a kernel was compiled in this process."""
    return _compilations


def refusal(need: Need) -> str | None:
    """Why this attention cannot be compiled; None when it can."""
    parts, widths = need.parts, {need.place.key_dim, need.place.value_dim}
    if not parts.score.dot_like:
        return "it multiplies query and key, and the score is no product of them"
    if type(parts.weighting) is not Softmax:
        return "its weighting is softmax"
    if type(parts.position).bias is not Position.bias:
        return "the position adds a bias, which would be compiled anew for each layer"
    if need.place.cross or not parts.pattern.sparse:
        return "every query may see every key"
    if any(width < 16 or width & (width - 1) for width in widths):
        return f"heads must be 16, 32, 64, ... wide, and they are {' and '.join(map(str, sorted(widths)))}"
    if need.device not in (None, "cpu", "cuda"):
        return f"it has no kernel for {need.device}"
    if need.device == "cpu" and need.gradient:
        return "PyTorch has no backward pass for it on CPU"
    if need.dropout:
        return "it cannot drop weights"
    if need.dtype is torch.float64:
        return "its kernels have no float64"
    if need.queries is not None and need.queries != need.keys:
        return "the queries are not the whole sequence"
    return None


def run(call: Call) -> Answer:
    """The call as one compiled kernel."""
    import torch._dynamo  # not at the top: it takes a second to import

    length = call.query.shape[2]
    excess = -length % BLOCK
    query, key, value = (F.pad(part, (0, 0, 0, excess)) for part in (call.query, call.key, call.value))
    mask = _block_mask(
        call.parts.pattern,
        call.parts.pattern.pieces(),
        length + excess,
        call.place.causal,
        query.shape[1],
        query.device,
    )
    padding = call.key_padding_mask
    if padding is None and excess and not call.place.causal:
        padding = torch.zeros(query.shape[0], length, dtype=torch.bool, device=query.device)
    # With a captured mask, lengths left open do not compile on CPU: torch 2.13 writes C++ with an unknown name.
    exact = padding is not None and query.device.type == "cpu"
    # Past its limit PyTorch would run uncompiled, as a dense matrix, without a word.
    with torch._dynamo.config.patch(recompile_limit=256, accumulated_recompile_limit=4096):
        values = _compiled(False if exact else None)(
            query.to(value.dtype),
            key.to(value.dtype),
            value,
            score_mod=None if padding is None else _without(F.pad(padding, (0, excess), value=True)),
            block_mask=mask,
            scale=call.parts.score.scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return Answer(values[:, :, :length])


def _without(padding: Tensor) -> Callable[..., Tensor]:
    """Scores without the padded keys, (B, S)."""

    def score_mod(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return torch.where(padding[batch, key], -torch.inf, score)

    return score_mod


# Keyed by the pieces, which are equal where the options are; of equal patterns the first one's predicate serves all,
# so that nothing is compiled twice.
_masks: dict[tuple[Any, ...], Any] = {}
_KEPT = 32


def _block_mask(
    pattern: Pattern, pieces: tuple[Piece, ...], length: int, causal: bool, heads: int, device: torch.device
) -> Any:
    key = (pieces, length, causal, heads, device)
    if key not in _masks:
        from torch.nn.attention.flex_attention import BlockMask

        if len(_masks) >= _KEPT:
            _masks.pop(next(iter(_masks)))
        touched = _touched(pieces, length, causal, heads)
        count = touched.sum(dim=-1, dtype=torch.int32)
        order = touched.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
        _masks[key] = BlockMask.from_kv_blocks(
            count.unsqueeze(0).to(device),
            order.unsqueeze(0).to(device),
            BLOCK_SIZE=BLOCK,
            mask_mod=_predicate(pattern, pieces, causal, heads),
        )
    return _masks[key]


_predicates: dict[tuple[Any, ...], Callable[..., Tensor]] = {}


def _predicate(pattern: Pattern, pieces: tuple[Piece, ...], causal: bool, heads: int) -> Callable[..., Tensor]:
    """One function for all lengths: another function would be another compilation."""

    def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = pattern.mask_mod(head, query, key)
        return allowed & (key <= query) if causal else allowed

    return _predicates.setdefault((pieces, causal, heads), mask_mod)


def _touched(pieces: tuple[Piece, ...], length: int, causal: bool, heads: int) -> Tensor:
    """Which blocks of keys each block of queries may see: (heads, length / BLOCK, length / BLOCK)."""
    blocks, cpu = length // BLOCK, torch.device("cpu")
    touched = torch.zeros(heads, blocks, blocks, dtype=torch.bool, device=cpu)
    for planned in make_plan(pieces, length, causal, heads, cpu).tiles:
        first, step = planned.piece.heads
        tile = planned.tile
        groups = max(1, (1 << 22) // (tile.query.count * tile.keys * heads))
        for start in range(0, tile.query.groups, groups):
            part = tile.part(start, min(groups, tile.query.groups - start))
            query, key = part.query.positions(cpu).unsqueeze(-1), part.key_positions(cpu).unsqueeze(-2)
            head = torch.arange(first, heads, step, device=cpu).view(-1, 1, 1, 1)
            key = key[head.flatten()] if key.dim() == 4 else key.unsqueeze(0)
            # No key: the query's own position is seen by every pattern or masked by the predicate.
            key = torch.where(key < 0, query, key)
            touched[head, query // BLOCK, key // BLOCK] = True
    return touched


@lru_cache(maxsize=2)
def _compiled(dynamic: bool | None) -> Callable[..., Tensor]:
    """flex_attention, compiled when first called; compilations are counted, since each takes long."""
    from torch._inductor.compile_fx import compile_fx
    from torch.nn.attention.flex_attention import flex_attention

    def counted(graph: Any, inputs: Any) -> Any:
        global _compilations
        _compilations += 1
        if _compilations == MANY:
            warnings.warn(
                f"FlexAttention was compiled {MANY} times, tens of seconds each: use fewer different attentions and "
                "batch shapes (data with fixed lengths), or set backend=blocksparse",
                stacklevel=2,
            )
        return compile_fx(graph, inputs)

    return torch.compile(flex_attention, backend=counted, dynamic=dynamic, fullgraph=True)
