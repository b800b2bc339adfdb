"""The figures of `attention_quality.py`, its page and its picture."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attention_groups import COMMON, GROUPS, UNITS
from runs import mean_of, spread_of

__all__ = ["Figures", "write_page"]

#: Of a label from its point.
_OFFSET: dict[str, Any] = {"textcoords": "offset points"}


@dataclass
class Figures:
    """What was measured.

    Attributes:
        runs: group -> variant -> seed -> metric -> value.
        speeds: group -> variant -> that of each update.
        memory: group -> variant -> MB, where that is told.
        versions: of the packages that trained last.
    """

    runs: dict[str, Any] = field(default_factory=dict)
    speeds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def kept_in(cls, path: Path) -> Figures:
        """Those of an earlier call; none where there was none."""
        if not path.with_suffix(".json").exists():
            return cls()
        kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        kept.pop("rows")
        return cls(**kept)

    def value(self, group: str, variant: str, metric: str) -> float:
        """The mean of the seeds; of speed, the median of the updates. Costs are not a number before they are known."""
        if metric == "speed":
            return statistics.median(self.speeds.get(group, {}).get(variant, [math.nan]))
        if metric == "memory":
            return self.memory.get(group, {}).get(variant, math.nan)
        return mean_of(self.runs[group][variant], metric)

    def spread(self, group: str, variant: str) -> float:
        """Of the headline: half of the difference between the seeds."""
        return spread_of(self.runs[group][variant], GROUPS[group].metric)

    def best_first(self, group: str) -> list[str]:
        """The variants of a group."""
        return sorted(self.runs[group], key=lambda variant: -self.value(group, variant, GROUPS[group].metric))


def write_page(figures: Figures, path: Path) -> None:
    record = {"rows": list(rows(figures)), **asdict(figures)}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.write_text("\n".join(page(figures, path)) + "\n", encoding="utf-8")
    draw(figures, path.with_suffix(".png"))


def rows(figures: Figures) -> Iterator[dict[str, Any]]:
    """case, system, metric, value, unit."""
    for group, variants in figures.runs.items():
        for variant in variants:
            for metric, unit in UNITS[GROUPS[group].metric].items():
                value = figures.value(group, variant, metric)
                if math.isnan(value):
                    continue
                case = f"{GROUPS[group].data}, {group}"
                yield {"case": case, "system": variant, "metric": metric, "value": value, "unit": unit}


def page(figures: Figures, path: Path) -> Iterator[str]:
    yield """# Which attention learns how well, and at what cost

Written by `benchmarks/attention_quality.py`. Each figure is the mean of two seeds ± half their difference; a speed
is the median of updates in which all of a table took turns, on one thread.

Translation: Multi30k English-German, test_2016_flickr, cased sacreBLEU of greedy outputs; small models (dim 128,
BPE 4k), 800 updates of 2048 tokens, recurrent ones 1600 of 1024: these rank mechanisms early in training, and are
far from converged (in Luong's wiring bahdanau and luong_concat are one function). Classification: AG News read byte
by byte, four descriptions of one class joined to about 800 bytes; two layers of 64, mean pooling, 600 updates of 16
texts; a query sees at most an eighth of the text, or that many features or slots."""
    for name in GROUPS:
        if name in figures.runs:
            yield from table(figures, name)
    yield from ("", f"![quality against cost]({path.stem}.png)", "")
    yield ", ".join(map(" ".join, figures.versions.items()))


def table(figures: Figures, name: str) -> Iterator[str]:
    group = GROUPS[name]
    columns = [metric for metric in UNITS[group.metric] if metric != "chrf"]
    heads = [_head(metric, UNITS[group.metric][metric]) for metric in columns]
    yield from ("", f"## {group.title}", "", f"| attention | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|")
    for variant in figures.best_first(name):
        yield f"| {variant} | {' | '.join(_cell(figures, name, variant, metric) for metric in columns)} |"
    yield from ("", f"`attnbuild train {' '.join([*COMMON, *group.words])}` and the attention's own words, such as", "")
    yield f"`{' '.join(list(group.variants.values())[1])}`."


def _head(metric: str, unit: str) -> str:
    named = {"accuracy": "accuracy, %", "loss": "test loss", "speed": unit, "memory": "attention's peak MB"}
    return named.get(metric, unit if metric == "bleu" else metric)


def _cell(figures: Figures, group: str, variant: str, metric: str) -> str:
    value = figures.value(group, variant, metric)
    if math.isnan(value):
        return ""
    if metric == GROUPS[group].metric:
        return f"{value:.1f} ± {figures.spread(group, variant):.1f}"
    return {"loss": f"{value:.2f}", "parameters": f"{value / 1e6:.2f} M"}.get(metric, f"{value:.0f}")


def draw(figures: Figures, path: Path, columns: int = 3) -> None:
    """Quality against cost, one panel a group."""
    from matplotlib.figure import Figure

    lines = -(-len(figures.runs) // columns)
    figure = Figure(figsize=(6 * columns, 4.5 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, group in zip(panels, figures.runs, strict=False):
        draw_group(axes, figures, group)
    for axes in panels[len(figures.runs) :]:
        axes.remove()
    figure.savefig(path, dpi=90)


def draw_group(axes: Any, figures: Figures, group: str) -> None:
    """One point a variant, with the spread of its seeds; what is far below the others, at the lower edge."""
    units, metric = UNITS[GROUPS[group].metric], GROUPS[group].metric
    qualities = [figures.value(group, variant, metric) for variant in figures.runs[group]]
    lowest = lower_edge(qualities)
    for variant, quality in zip(figures.runs[group], qualities, strict=True):
        speed = figures.value(group, variant, "speed")
        if quality < lowest:
            axes.plot(speed, lowest, "v", color="C0")
            axes.annotate(f"{variant}: {quality:.1f}", (speed, lowest), fontsize=8, xytext=(4, 4), **_OFFSET)
        else:
            axes.errorbar(speed, quality, yerr=figures.spread(group, variant), fmt="o", color="C0")
            axes.annotate(variant, (speed, quality), fontsize=8, xytext=(4, 4), **_OFFSET)
    axes.set(xlabel=f"training speed, {units['speed']}", ylabel=f"test {units[metric]}", title=GROUPS[group].title)
    axes.title.set_size(9)
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)


def lower_edge(values: list[float]) -> float:
    """Below which a value would press the others together: two and a half times their inner half."""
    if len(values) < 4:
        return min(values)
    low, _, high = statistics.quantiles(values, n=4)
    return max(min(values), low - 2.5 * (high - low))
