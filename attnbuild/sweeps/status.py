"""status.json: how it stands with a run that a launcher started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnbuild.training.run import RunFolder

__all__ = ["BROKEN", "FILE", "FINISHED", "UNDER_WAY", "Status", "now"]

FILE = "status.json"

#: Nothing is left to do, and running a sweep again does nothing about it.
FINISHED = ("ok", "pruned")

#: What makes the exit code of a sweep non-zero.
BROKEN = ("failed", "oom", "killed")

#: Some process says that it works on it; whether that one still lives is for its launcher to find out.
UNDER_WAY = ("queued", "running")


@dataclass
class Status:
    """How it stands with one job.

    Attributes:
        status: waiting, queued (with a cluster), running, ok, failed, oom, killed, interrupted, pruned or invalid.
        reason: why, where it is not ok.
        number: of the job in its sweep.
        slug: what is chosen in it, short.
        overrides: what is chosen in it, as typed.
        hash: of its resolved config; equal hashes are the same job.
        attempts: how often it was started.
        started: when it was started last, in UTC.
        ended: when it ended.
        seconds: wall time of all attempts.
        figures: metrics, parameters, speed and memory of its summary.
        process: what to find it by: ``{"host", "pid"}``, or what a cluster calls it.
        trial: its number in the study of an adaptive sweeper.
    """

    status: str = "waiting"
    reason: str | None = None
    number: int = 0
    slug: str = ""
    overrides: list[str] = field(default_factory=list)
    hash: str = ""
    attempts: int = 0
    started: str | None = None
    ended: str | None = None
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=dict)
    trial: int | None = None

    @classmethod
    def read(cls, folder: Path) -> Status | None:
        """The status in a run folder; None where there is none, or none that can be read."""
        try:
            values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(values, dict):
            return None
        return cls(**{name: value for name, value in values.items() if name in cls.__dataclass_fields__})

    def write(self, folder: Path) -> None:
        """Write it whole into a run folder, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_text(FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
