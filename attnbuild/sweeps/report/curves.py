"""Learning curves from metrics.csv, with no more points than an eye can tell apart."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attnbuild.sweeps.report.reading import Notes

__all__ = ["Curve", "points_for", "read_curves"]

#: The most points of one curve, about one for each second pixel; the fewest that still show its shape; and the most
#: of all curves in one plot, which a browser draws within seconds.
_MOST, _FEWEST, _TOGETHER = 400, 50, 30_000

#: The column of wall time, where the file has one.
_SECONDS = "seconds"


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Attributes:
        steps: updates.
        values: the metric there.
        seconds: wall time there; empty where the file does not tell.
    """

    steps: list[int]
    values: list[float]
    seconds: list[float]


def points_for(curves: int) -> int:
    """How many points each of so many curves may have."""
    return max(_FEWEST, min(_MOST, _TOGETHER // max(curves, 1)))


def read_curves(path: Path, metrics: Iterable[str], notes: Notes, count: int = _MOST) -> dict[str, Curve]:
    """The curves of some metrics; those that the file lacks, or all where there is no file, are left out.

    Args:
        path: metrics.csv: step, metric, value, and perhaps seconds.
        metrics: their names.
        notes: where damage is told.
        count: the most points of each.
    """
    points: dict[str, list[tuple[int, float, float]]] = {name: [] for name in metrics}
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("metric") in points and (point := _point(row)) is not None:
                    points[row["metric"]].append(point)
    except (OSError, csv.Error) as error:
        notes.add(path, error)
    return {name: _curve(found, count) for name, found in points.items() if found}


def _point(row: dict[str, str | None]) -> tuple[int, float, float] | None:
    """Step, value and seconds of a row; None where it has none, as the last one of a run that was killed."""
    try:
        step, value = int(row["step"] or ""), float(row["value"] or "")
        seconds = float(row.get(_SECONDS) or "nan")
    except (KeyError, ValueError):
        return None
    return (step, value, seconds) if math.isfinite(value) else None


def _curve(points: list[tuple[int, float, float]], count: int) -> Curve:
    points = _thinned(sorted(points), count)
    seconds = [second for _, _, second in points]
    has_time = all(math.isfinite(second) for second in seconds)
    return Curve([step for step, _, _ in points], [value for _, value, _ in points], seconds if has_time else [])


def _thinned(points: list[tuple[int, float, float]], count: int) -> list[tuple[int, float, float]]:
    """Evenly chosen points, the first and the last among them."""
    if len(points) <= count:
        return points
    stride = (len(points) - 1) / (count - 1)
    return [points[round(place * stride)] for place in range(count)]
