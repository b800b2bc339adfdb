"""What a sweeper is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from attnbuild.sweeps.space import Dimension

__all__ = ["Proposal", "Sweeper", "SweeperPlace"]


@dataclass(frozen=True)
class SweeperPlace:
    """What a sweeper is built from.

    Attributes:
        dimensions: what may be chosen, in the order in which conditions refer to them.
        folder: of the sweep, where a study may be kept.
        works: whether a combination can be built at all; without it, all can.
        about: what all jobs share, as a hash; results of jobs that share something else are not compared.
    """

    dimensions: Sequence[Dimension]
    folder: Path
    works: Callable[[Mapping[str, str]], bool] = lambda chosen: True
    about: str = ""


@dataclass(frozen=True)
class Proposal:
    """A combination that shall become a job.

    Attributes:
        chosen: key -> value as typed, of every dimension that is there.
        trial: what an adaptive sweeper calls it.
    """

    chosen: Mapping[str, str] = field(default_factory=dict)
    trial: int | None = None


class Sweeper(Protocol):
    """Chooses the jobs of a sweep.

    Attributes:
        adaptive: whether later proposals depend on the results of earlier ones. Where they do not,
            all of them are asked for, and checked, before the first job starts.
        remark: what there is to say of the proposals so far, for people; mostly nothing.
    """

    adaptive: bool
    remark: str

    def sample_for_check(self) -> list[Proposal]:
        """Where the sweeper is adaptive: combinations that stand for all, tried out before the first job starts."""
        ...

    def ask(self, count: int) -> list[Proposal]:
        """The next proposals, at most so many where the sweeper is adaptive; none when there are no more now."""
        ...

    def watch(self, proposal: Proposal, step: int, score: float) -> bool:
        """Hear of a validation of a job under way; returns whether it is not worth going on with."""
        ...

    def tell(self, proposal: Proposal, status: str, score: float | None) -> None:
        """Hear how a job ended and its best validation score."""
        ...
