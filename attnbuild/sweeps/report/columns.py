"""What differs between runs, as columns; and runs that differ by their seed alone, as groups."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbuild.errors import CheckpointError
from attnbuild.sweeps.report.collect import Collection, Job
from attnbuild.sweeps.report.reading import Notes, as_text
from attnbuild.training.run import RunFolder

__all__ = ["Choice", "Columns", "Group", "Spread", "spread"]

SEED = "seed"

TASK = "task"

#: So many choices can be read in a legend.
_FEW = 3


@dataclass(frozen=True)
class Choice:
    """What a job has under one key.

    Attributes:
        text: the value; empty where it is not known.
        typed: whether the user typed it, or it is what the config has without that.
    """

    text: str
    typed: bool


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of one figure over jobs.

    Attributes:
        mean: of those that have it.
        deviation: None where one has it.
        count: how many have it.
    """

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Group:
    """Jobs equal but for ``seed``.

    Attributes:
        name: what is chosen in them.
        choices: by key, ``seed`` left out.
        jobs: by number.
    """

    name: str
    choices: dict[str, Choice]
    jobs: list[Job]

    @property
    def finished(self) -> list[Job]:
        """Those whose figures count."""
        return [job for job in self.jobs if job.is_ok]

    def metric(self, name: str) -> Spread | None:
        """Of the finished jobs that have the metric; None where none has."""
        return spread(job.metrics[name] for job in self.finished if name in job.metrics)

    def cost(self, name: str) -> Spread | None:
        """Of the finished jobs that have the cost; None where none has."""
        return spread(job.costs[name] for job in self.finished if name in job.costs)


def spread(values: Iterable[float]) -> Spread | None:
    """Mean and sample standard deviation; None of nothing."""
    found = list(values)
    if not found:
        return None
    return Spread(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


class Columns:
    """The keys in which jobs differ, and what each job has there.

    A job in which a key was not typed has there what its config says, so that the default and the same value
    typed are one.

    Args:
        collection: the jobs.

    Attributes:
        keys: those that differ: the dimensions of the sweep in its order, then others as they come.
        choices: by job number in the list, then key.
        groups: the jobs by what they have, ``seed`` left out.
    """

    def __init__(self, collection: Collection) -> None:
        self.jobs = collection.jobs
        self._is_sweep = collection.is_sweep
        self._configs = _Configs(collection.notes)
        known = [job for job in self.jobs if job.words is not None]
        keys = dict.fromkeys([*collection.dimensions, *(key for job in known for key in job.words or ())])
        keys.pop(TASK, None)  # known of every run, typed or not
        has = {key: [self._choice(job, key) for job in self.jobs] for key in keys}
        differing = [key for key in keys if _differ(has[key], self.jobs)]
        self.keys = [key for key in differing if key != SEED] + [key for key in differing if key == SEED]
        self.choices = [{key: has[key][place] for key in self.keys} for place in range(len(self.jobs))]
        self._short = _shortened(self.keys)
        self.groups = self._grouped()

    def name(self, choices: dict[str, Choice]) -> str:
        """Choices in a few words: ``attention=window, lr=0.1``."""
        return ", ".join(f"{self._short[key]}={choice.text}" for key, choice in choices.items() if choice.text)

    def title(self, place: int) -> str:
        """What names a job among the others.

        Args:
            place: of the job in the list.
        """
        job = self.jobs[place]
        name = (self.name(self.choices[place]) if self._is_sweep else "") or job.name
        return name if job.number is None else f"{job.number}: {name}"

    def _choice(self, job: Job, key: str) -> Choice:
        if job.words is not None and key in job.words:
            return Choice(job.words[key], typed=True)
        if job.words is None or job.number is None:  # without words or without a config
            return Choice("", typed=False)
        return Choice(self._configs.value(job, key), typed=False)

    def _grouped(self) -> list[Group]:
        together: dict[tuple[Any, ...], list[int]] = {}
        several_tasks = len({job.task for job in self.jobs if job.task}) > 1  # a job that has not begun tells none
        for place, job in enumerate(self.jobs):
            same: tuple[Any, ...] = tuple(choice.text for key, choice in self.choices[place].items() if key != SEED)
            if several_tasks:
                same = (job.task, *same)
            if job.words is None:
                same = (place, None)  # nobody knows what it is equal to
            together.setdefault(same, []).append(place)
        groups = []
        for places in together.values():
            choices = {key: choice for key, choice in self.choices[places[0]].items() if key != SEED}
            jobs = [self.jobs[place] for place in places]
            groups.append(Group(self._group_name(choices, jobs), choices, jobs))
        return groups

    def _group_name(self, choices: dict[str, Choice], jobs: Sequence[Job]) -> str:
        """What a group chooses; of single runs that differ in much, where the first of them lies."""
        name = self.name(choices)
        if name and (self._is_sweep or len(choices) <= _FEW):
            return name
        return jobs[0].name if len(jobs) == 1 else f"{jobs[0].name} and {len(jobs) - 1} more"


def _differ(choices: Sequence[Choice], jobs: Sequence[Job]) -> bool:
    return len({choice.text for choice, job in zip(choices, jobs, strict=True) if job.words is not None}) > 1


def _shortened(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each key, or all of it where two have the same last part."""
    last = {key: key.replace("/", ".").rpartition(".")[2] for key in keys}
    names = list(last.values())
    return {key: name if names.count(name) == 1 else key for key, name in last.items()}


class _Configs:
    """The resolved configs of jobs, each read once and only when it is asked for."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._read: dict[Path, dict[str, Any]] = {}

    def value(self, job: Job, key: str) -> str:
        """What the config has under the key of an override, as text; empty where it has nothing."""
        if job.folder not in self._read:
            self._read[job.folder] = self._config(job)
        value: Any = self._read[job.folder]
        for part in key.replace("/", ".").split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, dict):  # a group: what it was chosen by
            value = value.get("preset", value.get("type"))
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        return as_text(value, longest=300).replace(", ", ",")  # lists as they are typed

    def _config(self, job: Job) -> dict[str, Any]:
        run = RunFolder(job.folder)
        if not run.config_file.is_file():
            return {}  # a job that has not begun
        try:
            return run.read_config()
        except (CheckpointError, OSError, RecursionError) as error:
            self._notes.add(run.config_file, error)
            return {}
