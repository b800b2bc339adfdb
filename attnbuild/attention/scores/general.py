"""A learned bilinear form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.products import by_head
from attnbuild.attention.scores.base import Score
from attnbuild.registry import register

__all__ = ["General"]


@register("score", "general")
class General(Score):
    """q' W k (Luong et al. 2015, 3.1, "general"), one W a head."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        self.weight = nn.Parameter(torch.empty(place.heads, place.query_dim, place.key_dim))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def query(self, query: Tensor) -> Tensor:
        return by_head(query, self.weight)
