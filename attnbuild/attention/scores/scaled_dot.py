"""The product over the root of the width."""

from __future__ import annotations

import math

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.scores.base import Score, require_equal_widths
from attnbuild.registry import register

__all__ = ["ScaledDot"]


@register("score", "scaled_dot")
class ScaledDot(Score):
    """q.k / sqrt(d) (Vaswani et al. 2017, equation 1)."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        require_equal_widths(place, "scaled_dot")
        self.scale = 1.0 / math.sqrt(place.key_dim)
