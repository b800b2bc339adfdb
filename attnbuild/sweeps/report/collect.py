"""What there is to report: the runs under a folder, how each ended, and what it measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from attnbuild.errors import ConfigError
from attnbuild.sweeps import status as job_status
from attnbuild.sweeps.report.reading import Notes, as_number, as_text, as_texts, numbers, read_json
from attnbuild.training.run import RunFolder

__all__ = ["Collection", "Job", "collect"]

SWEEP_FILE = "sweep.json"

#: How far below a folder its runs may lie: outputs/TASK/DATE/RUN.
_DEPTH = 3

#: The end of a job that nobody wanted: it is told at the top of the page.
BROKEN = (*job_status.BROKEN, "invalid", "interrupted", "unreadable")

#: Words about where a run is written, which differ between any two and tell nothing.
_CIRCUMSTANCES = ("hydra", "paths.", "resume", "launcher", "sweep", "sweeper")

_COSTS = ("wall_seconds", "parameters", "peak_memory_mb")


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        folder: its run folder.
        name: the folder, seen from the reported one.
        number: of the job in its sweep; counted where there is no sweep; None of what never became a job.
        status: of status.json or summary.json; "unreadable" where neither can be read.
        reason: why, where it is not ok.
        words: key -> value as typed; None where that is not known.
        task: the kind of task, where it is known.
        monitor: the metric that the run was judged by, as "validation/bleu".
        metrics: by name; the score is there as "best validation/bleu".
        costs: wall_seconds, parameters, peak_memory_mb, tokens_per_second.
    """

    folder: Path
    name: str
    number: int | None
    status: str
    reason: str = ""
    words: dict[str, str] | None = None
    task: str | None = None
    monitor: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        """Whether it came to its end, so that its figures can be compared."""
        return self.status == "ok"

    @property
    def headline(self) -> str | None:
        """The name of its score among the metrics."""
        return f"best {self.monitor}" if self.monitor else None


@dataclass(frozen=True)
class Collection:
    """The runs under one folder.

    Attributes:
        folder: that one.
        is_sweep: whether it is of a sweep; other folders hold single runs.
        fixed: the words that all jobs of a sweep share.
        dimensions: the keys that a sweep chooses, in its order.
        jobs: by number.
        notes: what could not be read.
    """

    folder: Path
    is_sweep: bool
    fixed: list[str]
    dimensions: list[str]
    jobs: list[Job]
    notes: Notes

    @property
    def broken(self) -> list[Job]:
        """Those that ended as nobody wanted."""
        return [job for job in self.jobs if job.status in BROKEN]

    @property
    def under_way(self) -> list[Job]:
        """Those that have not ended yet."""
        return [job for job in self.jobs if job.status in (*job_status.UNDER_WAY, "waiting")]

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs have each status; ok comes first, the rest by number."""
        found = Counter(job.status for job in self.jobs)
        return dict(sorted(found.items(), key=lambda item: (item[0] != "ok", -item[1], item[0])))

    @property
    def headlines(self) -> list[str]:
        """The names of the scores, the most common first: more than one where tasks are mixed."""
        return [name for name, _ in Counter(job.headline for job in self.jobs if job.headline).most_common()]

    def best(self, headline: str) -> Job | None:
        """The finished job of the highest score; the first of equals."""
        scored = [job for job in self.jobs if job.is_ok and headline in job.metrics]
        return max(scored, key=lambda job: job.metrics[headline], default=None)


def collect(folder: Path) -> Collection:
    """Find the runs under a folder and read how they ended.

    Raises:
        ConfigError: there is no such folder, or no run under it.
    """
    if not folder.is_dir():
        there = "is no folder" if folder.exists() else "there is no such folder"
        raise ConfigError(f"{as_text(folder)}: {there}; name the folder of a sweep, or one with runs under it")
    notes = Notes()
    is_sweep = (folder / SWEEP_FILE).is_file()
    sweep = (read_json(folder / SWEEP_FILE, notes) if is_sweep else None) or {}
    found = sorted(_run_folders(folder, _DEPTH, notes))
    if not found and not is_sweep:
        message = f"no sweep.json, and no run (a folder with summary.json) up to {_DEPTH} folders below"
        raise ConfigError(f"{as_text(folder)}: is neither a sweep nor a folder of runs: {message}")
    jobs = [_read_job(path, folder, number, is_sweep, notes) for number, path in enumerate(found)]
    return Collection(
        folder=folder,
        is_sweep=is_sweep,
        fixed=as_texts(sweep.get("fixed")),
        dimensions=_dimensions(sweep.get("dimensions")),
        jobs=[*sorted(jobs, key=lambda job: (job.number or 0, job.name)), *_invalid(folder, sweep.get("invalid"))],
        notes=notes,
    )


def _dimensions(value: object) -> list[str]:
    return [as_text(key) for key in value] if isinstance(value, dict) else []


def _invalid(folder: Path, combinations: object) -> list[Job]:
    """What a sweep would have run if its config could work; it has no folder."""
    jobs = []
    for one in combinations if isinstance(combinations, list) else []:
        if isinstance(one, dict):
            words, reason = _by_key(as_texts(one.get("overrides"))), as_text(one.get("reason")).strip()
            jobs.append(Job(folder, "(never started)", None, "invalid", reason, words))
    return jobs


def _run_folders(folder: Path, depth: int, notes: Notes) -> Iterator[Path]:
    """Folders of runs at or below one; runs hold no runs."""
    if any((folder / name).is_file() for name in (job_status.FILE, "summary.json")):
        yield folder
    elif depth:
        try:
            below = [Path(entry) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
        except OSError as error:
            notes.add(folder, error.strerror or error)
            return
        for path in below:
            yield from _run_folders(path, depth - 1, notes)


def _read_job(path: Path, folder: Path, count: int, is_sweep: bool, notes: Notes) -> Job:
    summary = read_json(path / "summary.json", notes)
    status = read_json(path / job_status.FILE, notes)
    state, reason = _ended(path, status, summary, notes)
    summary, status = summary or {}, status or {}
    figures = _figures(summary, status)
    monitor = figures.get("monitor")
    number = as_number(status.get("number")) if is_sweep else None
    words = _words(path, status, summary, is_sweep, notes)
    task = summary.get("task", (words or {}).get("task"))
    return Job(
        folder=path,
        name=as_text(os.path.relpath(path, folder) if path != folder else path.absolute().name, longest=300),
        number=count if number is None else int(number),
        status=state,
        reason=reason,
        words=words,
        task=None if task is None else as_text(task, longest=100),
        monitor=as_text(monitor, longest=100) if isinstance(monitor, str) else None,
        metrics=_metrics(figures, monitor),
        costs=numbers(figures, [*_COSTS, *(name for name in figures if _is_speed(name))]),
    )


def _is_speed(name: str) -> bool:
    return name.endswith("_per_second") and "/" not in name


def _figures(summary: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """What the run says that it measured, and for what that lacks, what its job noted."""
    noted, metrics = status.get("figures"), summary.get("metrics")
    figures = dict(noted) if isinstance(noted, dict) else {}
    figures |= {name: value for name, value in summary.items() if value is not None}
    figures |= metrics if isinstance(metrics, dict) else {}
    figures.setdefault("wall_seconds", status.get("seconds"))
    return {as_text(name, longest=100): value for name, value in figures.items()}


def _metrics(figures: Mapping[str, Any], monitor: object) -> dict[str, float]:
    """The metrics, with the score before them."""
    score = as_number(figures.get("score"))
    found = {} if monitor is None or score is None else {f"best {as_text(monitor, longest=100)}": score}
    return found | numbers(figures, [name for name in figures if "/" in name])


def _ended(
    path: Path, status: Mapping[str, Any] | None, summary: Mapping[str, Any] | None, notes: Notes
) -> tuple[str, str]:
    """How it stands with a run, and why."""
    if status is None and summary is None:
        return "unreadable", "neither status.json nor summary.json can be read"
    told = status if status is not None and "status" in status else summary or {}
    state = as_text(told.get("status"), longest=40) or "unreadable"
    if state == "running" and (summary or {}).get("status") == "ok":
        return "ok", ""  # it ended, and who started it was gone by then
    reason = told.get("reason") or (summary or {}).get("error")
    if state == "running":
        reason = _progress(path, notes)
    return state, "" if state == "ok" else as_text(reason).strip()


def _progress(path: Path, notes: Notes) -> str:
    """How far a run is that has not ended, and when it last said something."""
    progress = read_json(path / "progress.json", notes) or {}
    step, steps = as_number(progress.get("step")), as_number(progress.get("max_steps"))
    far = f"step {step:.0f} of {steps:.0f}; " if step is not None and steps is not None else ""
    written = [file.stat().st_mtime for file in map(path.joinpath, _SIGNS_OF_LIFE) if file.is_file()]
    when = datetime.fromtimestamp(max(written)).isoformat(" ", "minutes") if written else "unknown"
    return f"{far}last sign of life: {when}"


_SIGNS_OF_LIFE = ("progress.json", "summary.json", job_status.FILE, "metrics.csv")


def _words(
    path: Path, status: Mapping[str, Any], summary: Mapping[str, Any], is_sweep: bool, notes: Notes
) -> dict[str, str] | None:
    """What was typed for this run: within a sweep that which it chooses, else all of it."""
    chosen, typed = status.get("overrides"), summary.get("overrides")
    for words in (chosen, typed) if is_sweep else (typed, chosen):
        if isinstance(words, list):
            return _by_key(as_texts(words))
    from yaml import YAMLError

    try:
        return _by_key(as_texts(RunFolder(path).read_overrides()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, YAMLError) as error:
        notes.add(path / "overrides.yaml", f"cannot be read: {error}")
        return None


def _by_key(words: Iterable[str]) -> dict[str, str]:
    """``++optimizer.lr=0.1`` as optimizer.lr -> 0.1; of a key that is there twice, the last counts."""
    found = {}
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if key.startswith("~"):
            key, value = key[1:], "(removed)"
        elif not equals:
            continue
        key = as_text(key.strip(), longest=100)
        if not key.startswith(_CIRCUMSTANCES):
            found[key] = as_text(value.strip(), longest=300)
    return found
