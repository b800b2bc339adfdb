"""What the cores of the soft family are composed of."""

from __future__ import annotations

from dataclasses import dataclass

from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.attention.scores.base import Score
from attnbuild.attention.weightings.base import Weighting

__all__ = ["CorePlace", "Parts"]


@dataclass(frozen=True)
class Parts:
    """The parts that a core of the soft family is made of."""

    score: Score
    pattern: Pattern
    weighting: Weighting
    position: Position


@dataclass(frozen=True)
class CorePlace(HeadPlace):
    """What a core is told: the place, its heads, and its parts (None for cores that take none)."""

    parts: Parts | None = None
