"""The two tables of the page, cell by cell: runs, and runs equal but for their seed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from attnbuild.sweeps.report.collect import Collection, Job
from attnbuild.sweeps.report.columns import SEED, Choice, Columns, Group, Spread
from attnbuild.sweeps.report.texts import cost_label, cost_text, is_lower_better, metric_text

__all__ = ["Cell", "Table", "groups_table", "jobs_table", "link", "shown_metrics"]

#: What a reason is cut to within a table; all of it stands at the top of the page.
_LONGEST_REASON = 100


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is read.
        sort: what it is sorted by where that is a number.
        note: a smaller line below.
        href: where a link leads.
        looks: classes of its looks: "best", "default", "status ok".
    """

    text: str
    sort: float | None = None
    note: str = ""
    href: str = ""
    looks: str = ""


@dataclass(frozen=True)
class Table:
    """Head and rows.

    Attributes:
        name: of the table, for those who do not see it.
        head: label of each column, and whether it holds numbers.
        rows: as many cells each as there are labels.
    """

    name: str
    head: list[tuple[str, bool]]
    rows: list[list[Cell]]


def shown_metrics(collection: Collection) -> list[str]:
    """Scores, then what was measured on the test split; on the validation split where nobody has a test.

    The metric that the runs were judged by comes first.
    """
    names = dict.fromkeys(name for job in collection.jobs for name in job.metrics)
    scores = collection.headlines
    leaves = {name.rpartition("/")[2] for name in scores}
    own = [name for name in names if name not in scores and not name.endswith("_averaged")]
    tests = [name for name in own if name.startswith("test/")] or own
    return [*scores, *sorted(tests, key=lambda name: name.rpartition("/")[2] not in leaves)]


def cost_names(collection: Collection) -> list[str]:
    """The costs that are there: time, speeds, parameters, memory."""
    names = dict.fromkeys(name for job in collection.jobs for name in job.costs)
    known = ("wall_seconds", "speed", "parameters", "peak_memory_mb")
    return sorted(names, key=lambda name: known.index(name) if name in known else known.index("speed"))


def jobs_table(collection: Collection, columns: Columns, beside: Path) -> Table:
    """A row for each run.

    Args:
        collection: the runs.
        columns: what differs between them.
        beside: the folder of the page, from which links lead to the runs.
    """
    metrics, costs = shown_metrics(collection), cost_names(collection)
    several_tasks = len({job.task for job in collection.jobs if job.task}) > 1
    # Figures of several tasks are not to be compared: none is the best.
    counting = [(job.metrics, job.is_ok and not several_tasks) for job in collection.jobs]
    best = {name: _best(name, ((found.get(name), counts) for found, counts in counting)) for name in metrics}
    head = [("job" if collection.is_sweep else "run", False), ("status", False)]
    head += [("task", False)] if several_tasks else []
    head += [(key, _are_numbers(choices[key] for choices in columns.choices)) for key in columns.keys]
    head += [(name, True) for name in metrics] + [(cost_label(name), True) for name in costs]
    rows = []
    for job, choices in zip(collection.jobs, columns.choices, strict=True):
        named = "" if collection.is_sweep and job.words is not None else job.name
        number = Cell("-") if job.number is None else Cell(str(job.number), job.number)
        row = [replace(number, note=named, href=link(job.folder, beside), looks="name"), _status(job)]
        row += [Cell(job.task or "")] if several_tasks else []
        row += [_choice(choices[key]) for key in columns.keys]
        row += [_metric(job.metrics.get(name), job.is_ok and job.metrics.get(name) == best[name]) for name in metrics]
        row += [_cost(name, job.costs.get(name)) for name in costs]
        rows.append(row)
    return Table("runs", head, rows)


def groups_table(collection: Collection, columns: Columns) -> Table | None:
    """A row for each group of runs equal but for their seed; None where no two runs are."""
    if all(len(group.jobs) == 1 for group in columns.groups):
        return None
    metrics, costs = shown_metrics(collection), cost_names(collection)
    keys = [key for key in columns.keys if key != SEED]
    means = {name: [group.metric(name) for group in columns.groups] for name in metrics}
    best = {name: _best(name, ((each.mean, True) for each in found if each)) for name, found in means.items()}
    head = [(key, _are_numbers(choices[key] for choices in columns.choices)) for key in keys]
    head = [*(head or [("what", False)]), ("n", True)]
    head += [(name, True) for name in metrics] + [(cost_label(name), True) for name in costs]
    rows = []
    for place, group in enumerate(columns.groups):
        row = [_choice(group.choices[key]) for key in keys] or [Cell(group.name)]
        row.append(_runs(group))
        row += [_spread(means[name][place], group, best[name]) for name in metrics]
        row += [_mean_cost(name, group) for name in costs]
        rows.append(row)
    return Table("runs by what they have in common", head, rows)


def link(folder: Path, beside: Path) -> str:
    """From the page to a folder, by a path that any bytes of a name leave a path."""
    relative = os.path.relpath(folder.resolve(), beside.resolve())
    return f"./{quote(os.fsencode(relative))}"


def _best(name: str, values: Iterable[tuple[float | None, bool]]) -> float | None:
    """The best value of those that count; None where all are the same, so that none stands out."""
    found = {value for value, counts in values if counts and value is not None}
    if len(found) < 2:
        return None
    return min(found) if is_lower_better(name) else max(found)


def _status(job: Job) -> Cell:
    reason = job.reason.partition("\n")[0]
    short = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
    return Cell(job.status, note=short, looks=f"status {_tone(job.status)}")


def _tone(status: str) -> str:
    """Which of the known looks a status has; its own text is not trusted to be a class."""
    known = {"ok": "good", "pruned": "quiet", "waiting": "quiet", "queued": "quiet", "running": "going"}
    return known.get(status, "bad")


def _choice(choice: Choice) -> Cell:
    return Cell(choice.text, _as_number(choice.text), looks="" if choice.typed else "default")


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _are_numbers(choices: Iterable[Choice]) -> bool:
    texts = [choice.text for choice in choices if choice.text not in ("", "null")]
    return bool(texts) and all(_as_number(text) is not None for text in texts)


def _metric(value: float | None, is_best: bool) -> Cell:
    return Cell("") if value is None else Cell(metric_text(value), value, looks="best" if is_best else "")


def _cost(name: str, value: float | None) -> Cell:
    return Cell("") if value is None else Cell(cost_text(name, value), value)


def _runs(group: Group) -> Cell:
    finished, count = len(group.finished), len(group.jobs)
    return Cell(
        str(count) if finished == count else f"{finished} of {count}", finished, looks="" if finished else "bad"
    )


def _spread(found: Spread | None, group: Group, best: float | None) -> Cell:
    if found is None:
        return Cell("")
    text = metric_text(found.mean)
    if found.deviation is not None:
        text += f" ± {metric_text(found.deviation, digits=2)}"
    note = "" if found.count == len(group.finished) else f"n = {found.count}"
    return Cell(text, found.mean, note, looks="best" if found.mean == best else "")


def _mean_cost(name: str, group: Group) -> Cell:
    found: Spread | None = group.cost(name)
    return _cost(name, found.mean if found else None)


def describe_counts(counts: Sequence[tuple[str, int]]) -> str:
    """``9 ok, 2 failed, 1 oom``."""
    return ", ".join(f"{count} {status}" for status, count in counts)
