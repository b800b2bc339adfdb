"""Attention among vectors that hash alike."""

from __future__ import annotations

import math
import zlib
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.backends import sorted_chunks
from attnbuild.attention.backends.sorted_chunks import Order
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import full_precision
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Reformer"]


@register("core", "reformer")
class Reformer(Core):
    """LSH attention: queries see what hashes alike (Kitaev et al. 2020, arXiv 2001.04451, section 2, appendix A).

    Queries and keys are the same vectors, as keys at unit length (shared QK). Each round hashes them by a random
    rotation, sorts them by bucket and place, padding last, and cuts them into chunks; a chunk sees itself and the
    one before, across the bounds of buckets, as in the authors' code. The rounds are merged to one softmax over all
    keys seen in any of them: a key seen in n rounds counts once (appendix A: log n is subtracted in each). A
    position sees itself only where it sees nothing else. Nothing depends on the padded length or on other rows.
    Buckets are chosen by an argmax, which has no gradient.

    Args:
        rounds: how often positions are hashed and sorted; the union of what they see is attended to.
        hash_buckets: how many a round sorts into, even; the paper takes 2 x length / chunk length.
        chunk_len: positions of a sorted chunk.
        hash_seed: what the rotations are drawn from, with place and layer; equal on all ranks.
    """

    reads_key = False
    capabilities = Capabilities(
        cross_attention=False,
        causal=False,
        incremental=False,
        linear_memory=True,
        reasons={
            "cross_attention": "its queries and keys are the same vectors, so there is one sequence only",
            "causal": "it sorts the whole sequence into chunks, and a future position moves past ones between them",
        },
    )

    rotations: Tensor

    def __init__(
        self,
        place: CorePlace,
        *,
        rounds: Annotated[int, Ge(1)] = 4,
        hash_buckets: Annotated[int, Ge(2)] = 16,
        chunk_len: Annotated[int, Ge(1)] = 64,
        hash_seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(place)
        if hash_buckets % 2:
            raise ConfigError(
                f"{hash_buckets}: a rotation gives each bucket its opposite: "
                f"choose {hash_buckets - 1} or {hash_buckets + 1}",
                f"{place.name}.hash_buckets",
            )
        self.rounds, self.hash_buckets, self.chunk_len = rounds, hash_buckets, chunk_len
        self.scale = 1.0 / math.sqrt(place.query_dim)
        seed = zlib.crc32(f"{hash_seed} {place.name} {place.layer}".encode())
        generator = torch.Generator(device="cpu").manual_seed(seed)
        shape = (place.heads, rounds, place.query_dim, hash_buckets // 2)
        rotations = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float32)
        # Saved with the checkpoint: what was learned holds for these rotations.
        self.register_buffer("rotations", rotations.to(torch.get_default_device()))

    def extra_repr(self) -> str:
        return f"rounds={self.rounds}, hash_buckets={self.hash_buckets}, chunk_len={self.chunk_len}"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        with torch.no_grad():
            order = sorted_chunks.sort(self._buckets(query), key_padding_mask, self.hash_buckets, self.chunk_len)
        if not need_weights:
            return Attended(sorted_chunks.attend(query, value, order, self.scale))
        weights = self._weights(query, order, key_padding_mask)
        return Attended(self.mix(weights, value), weights)

    def _buckets(self, query: Tensor) -> Tensor:
        """The bucket of each position in each round: (B, H, N, D) -> (B, H, rounds, N).

        h(x) = argmax([xR; -xR]) (section 2, after Andoni et al. 2015), in full precision: half of it would tie.
        """
        precision = torch.promote_types(query.dtype, torch.float32)
        buckets = []
        with full_precision(query):
            for rotation in self.rotations.to(precision).unbind(dim=1):
                turned = query.to(precision) @ rotation
                # One at a time: together with its negative a rotation would take twice the memory.
                highest, largest = turned.max(dim=-1)
                lowest, smallest = turned.min(dim=-1)
                buckets.append(torch.where(highest >= -lowest, largest, smallest + self.hash_buckets // 2))
        return torch.stack(buckets, dim=2)

    def _weights(self, query: Tensor, order: Order, key_padding_mask: Tensor | None) -> Tensor:
        """The weights as appendix A writes them, (B, H, N, N): the naive form that the chunks are tested against."""
        length = query.shape[2]
        precision = torch.promote_types(query.dtype, torch.float32)
        scores = query.to(precision) @ sorted_chunks.unit_keys(query.to(precision)).transpose(-2, -1) * self.scale
        real = torch.ones_like(scores, dtype=torch.bool)
        if key_padding_mask is not None:
            real = ~(key_padding_mask[:, None, :, None] | key_padding_mask[:, None, None, :])
        # Real positions alone come first in the sorted order, so a chunk's number says who sees whom.
        ahead = order.chunk.unsqueeze(-1) - order.chunk.unsqueeze(-2)
        seen = ((ahead == 0) | (ahead == 1)) & real.unsqueeze(2)
        times = seen.sum(dim=2, keepdim=True)
        itself = torch.eye(length, dtype=torch.bool, device=query.device)
        scores = torch.where(itself, scores.unsqueeze(2) - 1e5, scores.unsqueeze(2) - times.clamp(min=1).log())
        scores = torch.where(seen, scores, -torch.inf)
        # Softmax over keys and rounds together is each round's softmax, merged by its log-sum-exp.
        together = scores.transpose(2, 3).flatten(3)
        nothing = ~real.any(dim=-1, keepdim=True)
        weights = together.masked_fill(nothing, 0.0).softmax(dim=-1).masked_fill(nothing, 0.0)
        return weights.unflatten(-1, (self.rounds, length)).sum(dim=3).to(query.dtype)
