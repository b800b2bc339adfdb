"""Cutting the tensors of one attention into chunks of positions that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.precision import sum_dtype

__all__ = ["Chunks", "like", "masked", "write"]

#: Features of a chunk, in numbers: on a CPU what a core's cache holds beside the rest, elsewhere what keeps it busy.
CHUNK_NUMBERS = {"cpu": 2**18}
CHUNK_NUMBERS_ELSEWHERE = 2**25
#: A causal chunk is quadratic within: longer does more work, shorter keeps more states for the backward pass.
CAUSAL_CHUNK = {"cpu": 64}
CAUSAL_CHUNK_ELSEWHERE = 256


class Chunks:
    """Cuts tensors of one call into chunks of positions: (B, K x G, N, D) -> (B x K, G x C, D).

    Args:
        states: the tensor whose axis 2 is cut.
        kv_heads: K.
        features: F.
        chunk: positions a chunk; None = as many as fit.
        causal: chunks that are quadratic within.
        first: the position that axis 2 starts at.
    """

    def __init__(
        self, states: Tensor, kv_heads: int, features: int, chunk: int | None, causal: bool = False, first: int = 0
    ) -> None:
        self.first = first
        self.length, self.device = states.shape[2], states.device
        self.kv_heads, self.groups = kv_heads, states.shape[1] // kv_heads
        self.dtype = sum_dtype(states.dtype)
        kind = states.device.type
        if chunk is None and causal:
            chunk = CAUSAL_CHUNK.get(kind, CAUSAL_CHUNK_ELSEWHERE)
        if chunk is None:
            budget = CHUNK_NUMBERS.get(kind, CHUNK_NUMBERS_ELSEWHERE)
            chunk = max(64, budget // max(1, features * states.shape[0] * states.shape[1]))
        self.size = chunk

    def __iter__(self) -> Iterator[slice]:
        return (slice(start, min(start + self.size, self.length)) for start in range(0, self.length, self.size))

    def cut(self, tensor: Tensor, part: slice) -> Tensor:
        """The chunk of a tensor with H or K heads, in the precision of the sums; a view where it can be."""
        rows = tensor.shape[0] * self.kv_heads
        return tensor[:, :, part].reshape(rows, -1, tensor.shape[-1]).to(self.dtype)

    def positions(self, feature_map: FeatureMap, part: slice, groups: int = 1) -> Tensor | None:
        if not feature_map.positional:
            return None
        return torch.arange(self.first + part.start, self.first + part.stop, device=self.device).repeat(groups)

    def padding(self, mask: Tensor | None, part: slice) -> Tensor | None:
        """(B, S) -> (B x K, C, 1)."""
        return None if mask is None else mask[:, part].repeat_interleave(self.kv_heads, dim=0).unsqueeze(-1)


def like(tensor: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """An empty (B, H, N, width) laid out as ``tensor`` is, so that merging its heads again costs nothing."""
    if tensor.transpose(1, 2).is_contiguous():
        rows, heads, length, _ = tensor.shape
        return tensor.new_empty(rows, length, heads, width, dtype=dtype).transpose(1, 2)
    return tensor.new_empty(*tensor.shape[:-1], width, dtype=dtype)


def masked(tensor: Tensor, mask: Tensor | None, value: float = 0.0) -> Tensor:
    """``value`` where the mask is; overwrites."""
    return tensor if mask is None else tensor.masked_fill_(mask, value)


def write(result: Tensor, part: slice, chunk: Tensor) -> None:
    """(R, GC, D) into the positions ``part`` of (B, H, N, D)."""
    into = result[:, :, part]
    into.copy_(chunk.view(into.shape))
