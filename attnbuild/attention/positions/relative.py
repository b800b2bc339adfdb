"""Learned vectors of the distance."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.registry import register

__all__ = ["Relative"]


@register("position", "relative")
class Relative(Position):
    """A learned vector per clipped distance, rated by the query (Shaw et al. 2018, equation 4).

    The paper's second table, added to the values (equation 3), is left out: its own table 3 finds no gain.

    Args:
        max_distance: distances beyond it share one vector.
    """

    needs_dot_like = True

    def __init__(self, place: HeadPlace, *, max_distance: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__(place)
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, place.key_dim))
        nn.init.xavier_uniform_(self.table)

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = key_positions.unsqueeze(-2) - query_positions.unsqueeze(-1)
        row = distance.clamp(-self.max_distance, self.max_distance) + self.max_distance
        rated = query @ self.table.transpose(0, 1)
        return rated.gather(-1, row.expand(*rated.shape[:-1], row.shape[-1]))
