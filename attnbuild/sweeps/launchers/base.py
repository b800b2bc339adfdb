"""What a launcher is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attnbuild.errors import Problem

__all__ = ["Job", "Launcher", "LauncherPlace"]


@dataclass(frozen=True)
class LauncherPlace:
    """What a launcher is built from.

    Attributes:
        folder: of the sweep, or of the single run.
        name: of the sweep, or of the single run; for a cluster's list of jobs.
    """

    folder: Path
    name: str


@dataclass(frozen=True)
class Job:
    """A run that is to be trained.

    Attributes:
        folder: the run folder; its config is written before the job is started.
        config: the resolved config.
        name: of the job, for people: ``3_window``.
    """

    folder: Path
    config: dict[str, Any]
    name: str


class Launcher(Protocol):
    """Starts jobs and knows when they have ended.

    Attributes:
        waits: whether who started the jobs stays until they have ended.
        detaches: whether jobs go on when who started them stops waiting.
        dry_run: whether nothing is to be started: what would be is printed.
    """

    waits: bool
    detaches: bool
    dry_run: bool

    def check(self, job: Job) -> list[Problem]:
        """Why the job cannot be started here; asked of all jobs before any is started."""
        ...

    def describe(self, job: Job) -> str:
        """What would be started for the job, as text: a command, or a batch script."""
        ...

    def room(self) -> bool:
        """Whether any further job might be started now, whatever it is."""
        ...

    def ready(self, job: Job) -> bool:
        """Whether the job can be started now, beside those under way."""
        ...

    def start(self, job: Job) -> None:
        """Start it; its status.json says running, or queued.

        Raises:
            AttnbuildError: it cannot be started.
        """
        ...

    def adopt(self, job: Job) -> bool:
        """Whether an attempt from before is still under way; it is then watched as if started now."""
        ...

    def poll(self, job: Job) -> bool:
        """Whether it has ended; its status.json then says how."""
        ...

    def cancel(self, job: Job) -> None:
        """Ask it to save and to end; ``poll`` says when it has."""
        ...
