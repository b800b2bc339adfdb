"""Learning-rate schedules: the peak rate is the optimiser's ``lr``, a schedule is a factor on it.

A schedule is a function of the number of updates already made, 0 before the first. One that decays to the end of
training does so by updates or by time, whichever is nearer its end: where minutes are what is given, a rate that has
come down by then is worth more than one that has not (Li et al., 2020, "Budgeted training").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval

from attnbuild.registry import register

__all__ = ["Schedule", "SchedulerPlace", "constant", "cosine", "inverse_sqrt", "linear"]

Schedule = Callable[[int], float]
Updates = Annotated[int, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class SchedulerPlace:
    """What a schedule is built from.

    Attributes:
        max_steps: updates of the whole training.
        time_spent: share of ``trainer.max_minutes`` that has gone by, 0 where there is no such limit.
    """

    max_steps: int
    time_spent: Callable[[], float] = lambda: 0.0


@register("scheduler", "inverse_sqrt")
def inverse_sqrt(place: SchedulerPlace, *, warmup: Updates = 400) -> Schedule:
    """Linear warm-up to the peak, then down with the inverse square root (Vaswani et al., 2017, eq. 3).

    Args:
        warmup: updates until the peak learning rate is reached.
    """

    def factor(step: int) -> float:
        return _warm(step, warmup) * math.sqrt(max(warmup, 1) / max(step + 1, warmup, 1))

    return factor


@register("scheduler", "cosine")
def cosine(place: SchedulerPlace, *, warmup: Updates = 0, final: Fraction = 0.0) -> Schedule:
    """Half a cosine from the peak down to a fraction of it at the end (Loshchilov and Hutter, 2017).

    Args:
        warmup: updates until the peak learning rate is reached.
        final: fraction of the peak that is left at the end.
    """

    def factor(step: int) -> float:
        curve = (1 + math.cos(math.pi * _progress(step, warmup, place))) / 2
        return _warm(step, warmup) * (final + (1 - final) * curve)

    return factor


@register("scheduler", "linear")
def linear(place: SchedulerPlace, *, warmup: Updates = 0, final: Fraction = 0.0) -> Schedule:
    """A straight line from the peak down to a fraction of it at the end.

    Args:
        warmup: updates until the peak learning rate is reached.
        final: fraction of the peak that is left at the end.
    """

    def factor(step: int) -> float:
        return _warm(step, warmup) * (1 - (1 - final) * _progress(step, warmup, place))

    return factor


@register("scheduler", "constant")
def constant(place: SchedulerPlace, *, warmup: Updates = 0) -> Schedule:
    """The peak learning rate throughout, after a linear warm-up.

    Args:
        warmup: updates until the peak learning rate is reached.
    """

    def factor(step: int) -> float:
        return _warm(step, warmup)

    return factor


def _warm(step: int, warmup: int) -> float:
    """The linear rise; the first update is not wasted on a rate of 0."""
    return min(1.0, (step + 1) / max(warmup, 1))


def _progress(step: int, warmup: int, place: SchedulerPlace) -> float:
    """How far the decay is: by updates 0 at the end of warm-up and 1 from the last on, or further by time."""
    by_updates = max(0, step + 1 - warmup) / max(1, place.max_steps - warmup)
    return min(1.0, max(by_updates, place.time_spent()))
