"""The plain product."""

from __future__ import annotations

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.scores.base import Score, require_equal_widths
from attnbuild.registry import register

__all__ = ["Dot"]


@register("score", "dot")
class Dot(Score):
    """q.k, unscaled (Luong et al. 2015, 3.1, "dot")."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        require_equal_widths(place, "dot")
