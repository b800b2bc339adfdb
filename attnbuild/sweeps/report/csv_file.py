"""report.csv: one row for each job, with all that is known of it, for programs and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from attnbuild.sweeps.report.collect import Collection, Job
from attnbuild.sweeps.report.columns import Columns
from attnbuild.training.run import atomic_writer

__all__ = ["write_csv"]

_HEAD = ("number", "run", "task", "status", "reason")

#: A cell of text that begins so is a formula to a spreadsheet, which would run it.
_FORMULAS = ("=", "+", "-", "@", "\t")


def write_csv(path: Path, collection: Collection, columns: Columns) -> None:
    """Write the table: what each job is, what it chose, every metric and cost, to the last digit."""
    jobs = collection.jobs
    metrics = _names(job.metrics for job in jobs)
    costs = _names(job.costs for job in jobs)
    with atomic_writer(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_safe(name) for name in (*_HEAD, *columns.keys, "monitor", *metrics, *costs))
        for job, choices in zip(jobs, columns.choices, strict=True):
            chosen = (choices[key].text for key in columns.keys)
            figures = [*(job.metrics.get(name) for name in metrics), *(job.costs.get(name) for name in costs)]
            about = (*_about(job), *chosen, job.monitor or "")
            table.writerow([*map(_safe, about), *("" if value is None else _plain(value) for value in figures)])


def _about(job: Job) -> tuple[str, ...]:
    number = "" if job.number is None else str(job.number)
    return number, job.name, job.task or "", job.status, job.reason


def _names(figures: Iterable[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for found in figures for name in found))


def _plain(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula; numbers stay numbers."""
    if not text.startswith(_FORMULAS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
