"""What was measured, kept for people and programs: rows, circumstances, a picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from attnbuild.measure.race import Figures
from attnbuild.processor import processor_name

__all__ = ["draw_growth", "machine", "rows_of", "versions"]


def versions(packages: Iterable[str] = ("attnbuild", "torch", "numpy")) -> dict[str, str]:
    """Of Python and the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What it was measured on."""
    told = {"cpu": processor_name(), "vectors": torch.backends.cpu.get_cpu_capability(), "cores": os.cpu_count()}
    told["threads"] = torch.get_num_threads()
    if torch.device(device).type == "cuda":
        told["gpu"] = torch.cuda.get_device_name(device)
    return told


def rows_of(case: str, system: str, figures: Figures) -> list[dict[str, Any]]:
    """The rows of one entrant at one length; none where it did not run."""
    if figures.problem:
        return []
    row = {"case": case, "system": system}
    return [
        {**row, "metric": "time", "value": figures.seconds * 1e3, "unit": "ms"},
        {**row, "metric": "peak_memory", "value": figures.peak / 2**20, "unit": "MB"},
    ]


def draw_growth(
    path: Path, curves: Mapping[str, Sequence[tuple[int, float, float]]], title: str, quadratic: bool = True
) -> None:
    """Time and peak memory against length, both axes logarithmic.

    Args:
        path: the PNG.
        curves: name -> (length, seconds, bytes) at each length.
        title: of the picture.
        quadratic: draw what length^1 and length^2 look like.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(title)
    time_axes, memory_axes = figure.subplots(1, 2)
    for axes, column, unit in ((time_axes, 1, 1.0), (memory_axes, 2, 2.0**20)):
        for number, (name, points) in enumerate(curves.items()):
            marker, style = "os^vDPX*"[number % 8], ("-", "--", ":")[number // 10 % 3]
            axes.plot(
                [point[0] for point in points],
                [point[column] / unit for point in points],
                marker=marker,
                linestyle=style,
                label=name,
            )
        if quadratic:
            _draw_slopes(axes, [(point[0], point[column] / unit) for points in curves.values() for point in points])
        axes.set(xscale="log", yscale="log", xlabel="length")
        ticks = sorted({point[0] for points in curves.values() for point in points})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    time_axes.set(ylabel="seconds", title="time")
    memory_axes.set(ylabel="MB beyond the inputs", title="peak memory")
    memory_axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small")
    figure.savefig(path, dpi=110)


def _draw_slopes(axes: Any, points: Sequence[tuple[float, float]]) -> None:
    """Grey lines that grow linearly and quadratically, from the lower left corner."""
    if not points:
        return
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low = min(y for _, y in points)
    for power in (1, 2):
        axes.plot([first, last], [low, low * (last / first) ** power], color="0.8", linewidth=1, zorder=0)
        axes.annotate(f"$N^{power}$", (last, low * (last / first) ** power), color="0.6", fontsize="small")
