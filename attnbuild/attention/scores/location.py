"""The query alone says where to look."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.products import by_head
from attnbuild.attention.scores.base import Score
from attnbuild.registry import register

__all__ = ["Location"]


@register("score", "location")
class Location(Score):
    """W q, one row of W a position of the memory (Luong et al. 2015, equation 8), one W a head.

    Args:
        max_len: the longest memory, in positions; W has as many rows.
    """

    capabilities = Capabilities(
        self_attention=False,
        causal=False,
        reasons={
            "self_attention": "the location score never looks at a key: it learns positions of a source sentence, "
            "and Luong et al. define it from target to source only",
        },
    )
    dot_like = False
    reads_key = False

    def __init__(self, place: HeadPlace, *, max_len: Annotated[int, Ge(1)] = 256) -> None:
        super().__init__(place)
        self.max_len: int = max_len
        self.weight = nn.Parameter(torch.empty(place.heads, place.query_dim, max_len))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def extra_repr(self) -> str:
        return f"max_len={self.max_len}"

    def rate(self, query: Tensor, key: Tensor) -> Tensor:
        return by_head(query, self.weight[..., : key.shape[-2]])
