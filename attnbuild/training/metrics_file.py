"""The CSV logger: one row for each value, so that the file never changes its columns."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from attnbuild.training.run import atomic_writer

__all__ = ["COLUMNS", "MetricsFile"]

#: Seconds are wall time since training began, without what lies between a run's stop and its going on.
COLUMNS = ("step", "metric", "value", "seconds")


class MetricsFile(Logger):
    """Appends to metrics.csv.

    Args:
        path: the file.
        step: the update at which the run goes on; rows after it are of a lost continuation and dropped.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._began = time.monotonic()
        self._start(step)

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def _start(self, step: int) -> None:
        rows: list[list[str]] = []
        if step and self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in list(csv.reader(file))[1:] if _is_whole(row) and int(row[0]) <= step]
            self._began -= float(rows[-1][3]) if rows else 0.0
        with atomic_writer(self.path) as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        seconds = f"{time.monotonic() - self._began:.2f}"
        rows = [(step, name, value, seconds) for name, value in metrics.items()]
        try:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except OSError as error:
            error.filename = str(self.path)
            raise

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml lies beside the file."""


def _is_whole(row: list[str]) -> bool:
    """Whether it can be a row: a kill may have cut the last one short, and a dying machine left it garbled."""
    return len(row) == len(COLUMNS) and row[0].isdecimal() and row[3].replace(".", "", 1).isdecimal()
