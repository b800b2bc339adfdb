"""A learned bias for each range of distances."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.registry import register

__all__ = ["T5"]


@register("position", "t5")
class T5(Position):
    """A learned bias a head and bucket of distances on the scores (Raffel et al. 2020, 2.1).

    Half of the buckets hold one distance each, the others ranges that grow by a constant factor up to
    ``max_distance``. Causal, all buckets look back; not causal, one half looks back and one ahead. Every layer
    has biases of its own, where the paper's share those of the first.

    Args:
        distance_buckets: how many biases a head has.
        max_distance: distances beyond it share one bias.
    """

    def __init__(
        self,
        place: HeadPlace,
        *,
        distance_buckets: Annotated[int, Ge(4)] = 32,
        max_distance: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__(place)
        self.causal, self.max_distance = place.causal, max_distance
        #: How many buckets look one way.
        self.one_way = distance_buckets if place.causal else distance_buckets // 2
        self.by_distance = [_bucket(distance, self.one_way, max_distance) for distance in range(max_distance + 1)]
        self.table = nn.Parameter(torch.empty(distance_buckets, place.heads))
        # As small as the published models begin with.
        nn.init.normal_(self.table, std=place.dim**-0.5)

    def extra_repr(self) -> str:
        return f"distance_buckets={len(self.table)}, max_distance={self.max_distance}"

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        ahead = key_positions.unsqueeze(-2) - query_positions.unsqueeze(-1)
        bucket = torch.tensor(self.by_distance, device=query.device)[ahead.abs().clamp(max=self.max_distance)]
        if not self.causal:  # what is ahead is not seen there, whatever its bucket
            bucket = bucket + (ahead > 0) * self.one_way
        if bucket.ndim < query.ndim - 1:
            # The same positions in every head. Not F.embedding: its gradient is several times slower where
            # millions of pairs share a few rows.
            return self.table.t()[:, bucket].unsqueeze(0).to(query.dtype)
        head = torch.arange(self.table.shape[1], device=query.device).view(-1, *[1] * (bucket.ndim - 1))
        return self.table[bucket, head].unsqueeze(0).to(query.dtype)


def _bucket(distance: int, buckets: int, max_distance: int) -> int:
    """Exact up to half of the buckets, logarithmic beyond, the last one for all that is farther."""
    exact = buckets // 2
    if distance < exact:
        return distance
    if max_distance <= exact:
        return buckets - 1
    share = math.log(distance / exact) / math.log(max_distance / exact)
    # Where a range begins the product is whole, but for the rounding of the logarithms.
    return min(buckets - 1, exact + int(share * (buckets - exact) + 1e-9))
