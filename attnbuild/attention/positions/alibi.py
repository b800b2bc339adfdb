"""A penalty on distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.registry import register

__all__ = ["ALiBi", "alibi_slopes"]


@register("position", "alibi")
class ALiBi(Position):
    """Minus slope x distance on the scores, a fixed slope a head (Press et al. 2022, 3); |i - j| when not causal."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        self.slopes = alibi_slopes(place.heads)

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        # In fp32 at least: bf16 cannot count beyond 256.
        slopes = torch.tensor(self.slopes, dtype=torch.promote_types(query.dtype, torch.float32), device=query.device)
        distance = (query_positions.unsqueeze(-1) - key_positions.unsqueeze(-2)).abs()
        return (-slopes.view(1, -1, *[1] * (query.dim() - 2)) * distance).to(query.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), ... for n heads; between powers of two, the paper's interleaving."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes + alibi_slopes(2 * power)[0::2][: heads - power] if power < heads else slopes
