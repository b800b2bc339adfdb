"""From proposals to jobs: composed, checked, recognised, each with its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbuild.errors import ConfigError, Problem
from attnbuild.sections import OF_SWEEPS, of_one_run
from attnbuild.sweeps.launchers.base import Job
from attnbuild.sweeps.space import Dimension
from attnbuild.sweeps.status import Status
from attnbuild.sweeps.sweepers.base import Proposal

__all__ = ["Composer", "Planned", "Planner", "config_hash", "slug_of", "sweep_name"]

#: Words -> the resolved config for a run in that folder; raises ConfigError where it cannot work.
Composer = Callable[[list[str], Path], dict[str, Any]]

#: What makes no other run of a config: where it is written.
_NOT_THE_RUN = ("paths", "resume", *OF_SWEEPS)

_SLUG_LENGTH = 80


@dataclass(frozen=True)
class Planned:
    """A proposal that became a job, or that cannot.

    Attributes:
        proposal: what was proposed.
        words: what is typed for it, beside the words that all jobs share.
        job: what to start; None where the config cannot work.
        problems: why.
        number: of the job in its sweep.
        hash: of its config.
    """

    proposal: Proposal
    words: list[str]
    job: Job | None = None
    problems: tuple[Problem, ...] = ()
    number: int = -1
    hash: str = ""

    @property
    def slug(self) -> str:
        """What is chosen, short."""
        return slug_of(self.proposal.chosen)


@dataclass
class Planner:
    """Makes jobs of a sweep.

    Args:
        folder: of the sweep.
        fixed: the words that all jobs share.
        dimensions: what differs between them.
        compose: makes a config of words.
    """

    folder: Path
    fixed: Sequence[str]
    dimensions: Sequence[Dimension]
    compose: Composer
    #: Hash -> number and folder of the jobs there are.
    _known: dict[str, tuple[int, Path]] = field(init=False)
    #: Words -> what became of them: whether they work is asked before they are planned.
    _composed: dict[tuple[str, ...], dict[str, Any] | ConfigError] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        earlier = [(path, Status.read(path)) for path in _folders(self.folder)]
        self._known = {status.hash: (status.number, path) for path, status in earlier if status}

    def plan(self, proposal: Proposal) -> Planned:
        """The job of a proposal: one of an earlier call where its config is the same, else a new one."""
        words = self._words(proposal)
        config = self._config(words)
        if isinstance(config, ConfigError):
            return Planned(proposal, words, problems=config.problems)
        code = config_hash(config)
        if code not in self._known:
            number = 1 + max((number for number, _ in self._known.values()), default=-1)
            self._known[code] = (number, self.folder / f"{number}_{slug_of(proposal.chosen)}")
        number, folder = self._known[code]
        config = of_one_run(config)
        config["paths"] = {**config["paths"], "run": str(folder)}
        return Planned(proposal, words, Job(folder, config, folder.name), number=number, hash=code)

    def try_out(self, proposal: Proposal) -> Planned:
        """As ``plan``, for a job that will perhaps never be: it gets no number, and no folder of its own."""
        words = self._words(proposal)
        config = self._config(words)
        if isinstance(config, ConfigError):
            return Planned(proposal, words, problems=config.problems)
        return Planned(proposal, words, Job(self.folder, of_one_run(config), slug_of(proposal.chosen)))

    def works(self, chosen: Mapping[str, str]) -> bool:
        """Whether a combination can be built at all."""
        return not isinstance(self._config(self._words(Proposal(chosen))), ConfigError)

    def _config(self, words: Sequence[str]) -> dict[str, Any] | ConfigError:
        """The config that words make, or why they make none."""
        if tuple(words) not in self._composed:
            try:
                self._composed[tuple(words)] = self.compose([*self.fixed, *words], self.folder)
            except ConfigError as error:
                self._composed[tuple(words)] = error
        return self._composed[tuple(words)]

    def _words(self, proposal: Proposal) -> list[str]:
        return [each.word(proposal.chosen[each.key]) for each in self.dimensions if each.key in proposal.chosen]


def _folders(sweep: Path) -> list[Path]:
    return sorted(path for path in sweep.glob("*") if path.is_dir()) if sweep.is_dir() else []


def config_hash(config: Mapping[str, Any]) -> str:
    """What a config is, whatever folder it is written to: 12 hexadecimal digits."""
    kept = {name: section for name, section in config.items() if name not in _NOT_THE_RUN}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def slug_of(chosen: Mapping[str, str]) -> str:
    """What is chosen, short and fit for the name of a folder: ``attention-window_seed-1``."""
    parts = [f"{re.split('[./]', key)[-1]}-{value}" for key, value in chosen.items()]
    return _plain("_".join(parts))[:_SLUG_LENGTH].rstrip("-_.") or "job"


def sweep_name(task: str, fixed: Iterable[str], keys: Iterable[str]) -> str:
    """A name that the same command always gives, and so does a longer list of choices."""
    words = sorted(fixed)
    name = _plain("_".join([task, *(re.split("[./]", key)[-1] for key in keys)]))[:_SLUG_LENGTH]
    return f"{name}-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:6]}" if words else name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")
