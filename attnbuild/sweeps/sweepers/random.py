"""Combinations drawn by chance."""

from __future__ import annotations

import random
from typing import Annotated

from annotated_types import Ge

from attnbuild.registry import register
from attnbuild.sweeps.space import all_combinations, draw
from attnbuild.sweeps.sweepers.base import Proposal, SweeperPlace

__all__ = ["Random"]

#: Draws for one trial that only repeat earlier ones; then what is left of the space is looked through.
_REPEATS = 100

#: Combinations that cannot work, for one trial; then the last of them is proposed, and refused with its reason.
_BROKEN = 20


@register("sweeper", "random")
class Random:
    """Combinations drawn by chance, none of them twice (Bergstra and Bengio 2012, JMLR 13).

    Trial i follows from the seed, i and the space alone: more trials extend a sweep.

    Args:
        trials: how many combinations are drawn; fewer where there are no more.
        seed: what they are drawn from.
    """

    adaptive = False

    def __init__(self, place: SweeperPlace, *, trials: Annotated[int, Ge(1)] = 20, seed: int = 0) -> None:
        self.place = place
        self.trials = trials
        self.seed = seed
        #: What there is to say of the proposals, for people.
        self.remark = ""
        self._seen: set[tuple[tuple[str, str], ...]] = set()
        self._asked = False

    def ask(self, count: int) -> list[Proposal]:
        """All at the first call."""
        if self._asked:
            return []
        self._asked = True
        proposals: list[Proposal] = []
        for number in range(self.trials):
            chosen = self._trial(number)
            if chosen is None:
                self.remark = f"there are no more than {len(proposals)} combinations for {self.trials} trials"
                break
            proposals.append(Proposal(chosen))
        return proposals

    def _trial(self, number: int) -> dict[str, str] | None:
        """A new combination, which can work unless too many in a row cannot; None where there is none left."""
        generator = random.Random(f"{self.seed}/{number}")
        broken = None
        for _ in range(_BROKEN):
            chosen = self._new(generator)
            if chosen is None:
                return None if self._proposed else broken
            self._seen.add(tuple(chosen.items()))
            if self.place.works(chosen):
                self._proposed = True
                return chosen
            broken = chosen
        return broken

    #: Whether any trial can work; where none can, the reason must be told.
    _proposed = False

    def _new(self, generator: random.Random) -> dict[str, str] | None:
        """A combination that was not drawn before."""
        for _ in range(_REPEATS):
            chosen = draw(self.place.dimensions, generator)
            if tuple(chosen.items()) not in self._seen:
                return chosen
        left = [chosen for chosen in self._all if tuple(chosen.items()) not in self._seen]
        return generator.choice(left) if left else None

    @property
    def _all(self) -> list[dict[str, str]]:
        return all_combinations(self.place.dimensions) or []

    def sample_for_check(self) -> list[Proposal]:
        """None: what is proposed is checked itself."""
        return []

    def watch(self, proposal: Proposal, step: int, score: float) -> bool:
        """Every job is worth going on with."""
        return False

    def tell(self, proposal: Proposal, status: str, score: float | None) -> None:
        """Results change nothing."""
