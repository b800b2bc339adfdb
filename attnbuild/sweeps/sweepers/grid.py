"""Every combination of a space."""

from __future__ import annotations

from attnbuild.registry import register
from attnbuild.sweeps.space import require_whole
from attnbuild.sweeps.sweepers.base import Proposal, SweeperPlace

__all__ = ["Grid"]


@register("sweeper", "grid")
class Grid:
    """Every combination, the last key changing fastest.

    A dimension with a condition multiplies only those combinations for which it holds.
    """

    adaptive = False
    remark = ""

    def __init__(self, place: SweeperPlace) -> None:
        require_whole(place.dimensions, "grid")
        self._left = self._combinations(place)

    @staticmethod
    def _combinations(place: SweeperPlace) -> list[Proposal]:
        combinations: list[dict[str, str]] = [{}]
        for each in place.dimensions:
            assert isinstance(each.values, tuple)
            combinations = [
                longer
                for chosen in combinations
                for longer in (
                    [{**chosen, each.key: value} for value in each.values] if each.holds(chosen) else [chosen]
                )
            ]
        return [Proposal(chosen) for chosen in combinations]

    def ask(self, count: int) -> list[Proposal]:
        """All at the first call."""
        left, self._left = self._left, []
        return left

    def sample_for_check(self) -> list[Proposal]:
        """None: what is proposed is checked itself."""
        return []

    def watch(self, proposal: Proposal, step: int, score: float) -> bool:
        """Every job is worth going on with."""
        return False

    def tell(self, proposal: Proposal, status: str, score: float | None) -> None:
        """Results change nothing."""
