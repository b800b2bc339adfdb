"""What cores may be composed of."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.attention.scores.base import Score
from attnbuild.attention.weightings.base import Weighting

__all__ = ["CorePlace", "Parts"]


class Parts(SimpleNamespace):
    """The parts a core is made of: those of its ``part_kinds``; to read another is an error."""

    score: Score
    pattern: Pattern
    weighting: Weighting
    position: Position


@dataclass(frozen=True)
class CorePlace(HeadPlace):
    """What a core is told: the place, its heads, and its parts (None for cores that take none)."""

    parts: Parts | None = None
