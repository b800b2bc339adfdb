"""The angle, with a learned temperature."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt, Le
from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.scores.base import Score, require_equal_widths
from attnbuild.registry import register

__all__ = ["Cosine"]


@register("score", "cosine")
class Cosine(Score):
    """t cos(q, k) with a learned temperature t per head (Graves et al. 2014, eq. 5-6; Liu et al. 2022, eq. 2).

    Args:
        temperature: the factor that training starts from; it stays below 100, as in Swin V2.
    """

    max_temperature = 100.0
    #: Norms below it count as it; fp16 has no room for torch's 1e-12, and a zero vector would give NaN.
    smallest_norm = 1e-6

    def __init__(self, place: HeadPlace, *, temperature: Annotated[float, Gt(0), Le(100)] = 10.0) -> None:
        super().__init__(place)
        require_equal_widths(place, "cosine")
        # In log space the factor stays positive and its step is relative.
        self.log_temperature = nn.Parameter(torch.full((place.heads, 1, 1), math.log(temperature)))

    def query(self, query: Tensor) -> Tensor:
        temperature = self.log_temperature.clamp(max=math.log(self.max_temperature)).exp()
        return F.normalize(query, dim=-1, eps=self.smallest_norm) * temperature

    def key(self, key: Tensor) -> Tensor:
        return F.normalize(key, dim=-1, eps=self.smallest_norm)
