"""What the figures of attention.py are kept in, held against and shown as."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attention_peers import MATCHES, OURS, SDPA

from attnbuild import list_names
from attnbuild.measure.race import Figures
from attnbuild.measure.record import draw_growth, machine, rows_of, versions

PACKAGES = (
    *("attnbuild", "torch", "transformers", "local-attention", "linformer", "performer-pytorch", "reformer-pytorch"),
    *("linear-attention-transformer", "nystrom-attention"),
)
#: The sub-quadratic families whose speed has a target, by the title of their match.
_FAMILIES = ("linformer", "performer", "linear", "cosformer", "nystromformer", "reformer", "bigbird", "longformer")
FAMILIES = [match.title for match in MATCHES if match.name.split()[0] in _FAMILIES]
#: Systems that are no public implementation of the same mechanism.
NO_PEERS = {OURS, SDPA, "attnbuild blocksparse"}
#: Who is compared for the fixed cost.
BARE, BLOCK = "four linear layers and SDPA", "attnbuild block"


class Record:
    """The figures of this and earlier calls.

    Attributes:
        rows: (case, system, metric) -> (value, unit).
        left_out: (case, system) -> why it has no figures.
        checks: title of a match -> what was found equal before the race.
        circumstances: job -> versions and machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        rows = known.get("rows", [])
        self.rows = {(row["case"], row["system"], row["metric"]): (row["value"], row["unit"]) for row in rows}
        self.left_out = {(item["case"], item["system"]): item["reason"] for item in known.get("left_out", [])}
        self.checks: dict[str, str] = known.get("checks", {})
        self.circumstances: dict[str, dict[str, Any]] = known.get("circumstances", {})

    def put(self, case: str, system: str, figures: Figures) -> None:
        """Replace the figures of a cell."""
        for key in [key for key in self.rows if key[:2] == (case, system)]:
            del self.rows[key]
        self.left_out.pop((case, system), None)
        if figures.problem:
            self.left_out[case, system] = figures.problem
        for row in rows_of(case, system, figures):
            self.add(case, system, row["metric"], row["value"], row["unit"])

    def add(self, case: str, system: str, metric: str, value: float, unit: str) -> None:
        self.rows[case, system, metric] = (value, unit)

    def get(self, case: str, system: str, metric: str) -> float | None:
        return self.rows.get((case, system, metric), (None, ""))[0]

    def ran(self, job: str, device: str, repeats: int) -> None:
        """Note under what circumstances a job ran."""
        self.circumstances[job] = {"versions": versions(PACKAGES), "machine": machine(device), "repeats": repeats}

    def systems(self, title: str) -> list[str]:
        """Who raced in a match, in the order of the match."""
        return [name for match in MATCHES if match.title == title for name in match.systems]

    def save(self) -> None:
        record = {
            "rows": [
                {"case": case, "system": system, "metric": metric, "value": value, "unit": unit}
                for (case, system, metric), (value, unit) in self.rows.items()
            ],
            "left_out": [
                {"case": case, "system": system, "reason": reason} for (case, system), reason in self.left_out.items()
            ],
            "checks": self.checks,
            "circumstances": self.circumstances,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


@dataclass
class Verdict:
    """A figure against its target."""

    figure: str
    target: str
    value: float | None
    met: bool | None
    unit: str = ""

    def row(self) -> str:
        if self.value is None:
            return f"| {self.figure} | {self.target} | - | not measured |"
        return (
            f"| {self.figure} | {self.target} | {self.value:.3g}{self.unit} | {'met' if self.met else '**missed**'} |"
        )


def verdicts(record: Record) -> list[Verdict]:
    """The targets, all of them on a CPU in fp32."""
    found = []

    def at_least(figure: str, value: float | None, target: float, text: str = "", unit: str = "") -> None:
        met = None if value is None else value >= target
        found.append(Verdict(figure, text or f">= {target:g}", value, met, unit))

    def at_most(figure: str, value: float | None, target: float, unit: str = "") -> None:
        found.append(Verdict(figure, f"<= {target:g}{unit}", value, None if value is None else value <= target, unit))

    def ratio(case: str, metric: str, over: str, under: str) -> float | None:
        a, b = record.get(case, over, metric), record.get(case, under, metric)
        return None if a is None or not b else a / b

    window = "window on heads"
    speed = ratio(f"{window} 16384", "time", SDPA, OURS)
    at_least("window=128 at 16384: times as fast as dense SDPA", speed, 20, ">= 20, aim 32")
    at_most("... its peak memory over that of dense SDPA", ratio(f"{window} 16384", "peak_memory", OURS, SDPA), 1.25)
    for title in (window, "window projected on states"):
        at_most(f"{title}: exponent of time, 2048 to 8192", record.get(title, OURS, "time_exponent"), 1.2)
        peer = fastest_peer(record, title)
        at_least(f"{title} at 8192: times as fast as {peer}", ratio(f"{title} 8192", "time", peer, OURS), 1.5)
        at_most("... memory over the peer's", ratio(f"{title} 8192", "peak_memory", OURS, peer), 1.0)
    for title in FAMILIES:
        peer = fastest_peer(record, title)
        if peer:
            speed = ratio(f"{title} 8192", "time", peer, OURS)
            at_least(f"{title} at 8192: times as fast as {peer}", speed, 1.0, ">= 1, most 1.5")
            at_most("... memory over the peer's", ratio(f"{title} 8192", "peak_memory", OURS, peer), 1.0)
        at_most(f"{title}: exponent of time, 2048 to 8192", record.get(title, OURS, "time_exponent"), 1.2)
    speeds = [verdict.value for verdict in found if verdict.target == ">= 1, most 1.5" and verdict.value is not None]
    if speeds:
        share = sum(value >= 1.5 for value in speeds) / len(speeds)
        at_least("share of the families that are 1.5 times as fast", 100 * share, 50, "> 50 %", " %")
    tiny, real = "fixed cost 1x2x256", "fixed cost 32x128x256"
    for passes in ("forward_backward", "forward"):
        extra, bare = record.get(tiny, BLOCK, f"{passes}_beyond_bare"), record.get(real, BARE, f"{passes}_time")
        percent = None if extra is None or not bare else 100 * extra / bare
        told = "" if extra is None else f" ({extra:.0f} us a call)"
        metric, passes = f"{passes}_time", passes.replace("_", " and ")
        at_most(f"fixed cost of the block{told}, of {passes} at N=128, batch 32, dim 256", percent, 3, " %")
        extra = record.get(real, BLOCK, metric.replace("_time", "_beyond_bare"))
        percent = None if extra is None or not bare else 100 * extra / bare
        at_most("... as the median difference at that shape itself", percent, 3, " %")
    score = ratio("additive score 1024", "peak_memory", "additive", "dot product, reference")
    at_most("additive score at N=1024, batch 8, 8 heads: peak memory over the dot product's", score, 2)
    return found


def fastest_peer(record: Record, title: str) -> str:
    """The public implementation that took the least time at 8192; else at the longest length it has."""
    peers = [name for name in record.systems(title) if name not in NO_PEERS]
    timed = {name: record.get(f"{title} 8192", name, "time") for name in peers}
    known = {name: seconds for name, seconds in timed.items() if seconds is not None}
    return min(known, key=known.__getitem__) if known else next(iter(peers), "")


def write(record: Record, page: Path) -> None:
    """The figures, the picture and the page."""
    record.save()
    draw(record, page.with_suffix(".png"))
    suffixes = sorted({setting_suffix(case) for case, _, _ in record.rows})
    lines = [
        "# Attention against its peers",
        "",
        "Written by `benchmarks/attention.py`. Forward and backward, batch 1, 8 heads of 64; fp32 on the CPU. Median",
        "ms of interleaved turns / MB at the peak beyond inputs and parameters. On heads: queries, keys and values",
        "are given; on states: projections included. Exponents are from 2048 to 8192.",
        "",
        "## Targets",
        "",
        "| figure | target | measured | |",
        "|---|---|---|---|",
        *(verdict.row() for verdict in verdicts(record)),
        *("", "![time and memory against length](attention.png)", ""),
    ]
    for suffix in suffixes:
        lines += [f"## Races{' on' + suffix if suffix else ' on the CPU'}", ""]
        for match in MATCHES:
            lines += table(record, match.title, match.notes, suffix)
    lines += presets_table(record)
    lines += fixed_table(record)
    lines += ["## Left out", ""]
    lines += [f"- {case}, {system}: {reason}" for (case, system), reason in sorted(record.left_out.items())] or [
        "Nothing."
    ]
    lines += ["", "## How", ""]
    lines += circumstances(record)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def setting_suffix(case: str) -> str:
    """`` cuda bfloat16`` of a case that ends so; nothing on the CPU."""
    return f" cuda{case.rpartition(' cuda')[2]}" if " cuda" in case else ""


def lengths_of(record: Record, title: str, suffix: str) -> list[int]:
    found = set()
    for case, _, _ in [*record.rows, *((*key, "") for key in record.left_out)]:
        middle = case.removeprefix(f"{title} ").removesuffix(suffix)
        if case == f"{title} {middle}{suffix}" and middle.isdecimal():
            found.add(int(middle))
    return sorted(found)


def cell(record: Record, case: str, system: str) -> str:
    milliseconds, peak = record.get(case, system, "time"), record.get(case, system, "peak_memory")
    return "-" if milliseconds is None or peak is None else f"{milliseconds:.4g} / {peak:.4g}"


def exponent_cell(record: Record, case: str, system: str) -> str:
    values = [record.get(case, system, f"{metric}_exponent") for metric in ("time", "peak_memory")]
    return " / ".join("-" if value is None or math.isnan(value) else f"{value:.2f}" for value in values)


def table(record: Record, title: str, notes: str, suffix: str) -> list[str]:
    lengths = lengths_of(record, title, suffix)
    if not lengths:
        return []
    lines = [
        f"### {title}",
        "",
        f"| | {' | '.join(map(str, lengths))} | exponents |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for system in record.systems(title):
        cells = [cell(record, f"{title} {length}{suffix}", system) for length in lengths]
        lines.append(f"| {system} | {' | '.join(cells)} | {exponent_cell(record, f'{title}{suffix}', system)} |")
    told = [text for text in (record.checks.get(title, ""), notes) if text]
    return [*lines, "", *(f"{text[0].upper()}{text[1:]}." for text in told), ""]


def presets_table(record: Record) -> list[str]:
    names = [name for name in list_names("attention") if lengths_of(record, name, "")]
    if not names:
        return []
    lengths = sorted({length for name in names for length in lengths_of(record, name, "")})
    lines = [
        "## Every preset, as it ships",
        "",
        "Whole layers, self-attention (where a preset serves it), width 512, 8 heads.",
        "",
        f"| attention | {' | '.join(map(str, lengths))} | exponents |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for name in names:
        cells = [cell(record, f"{name} {length}", OURS) for length in lengths]
        lines.append(f"| {name} | {' | '.join(cells)} | {exponent_cell(record, name, OURS)} |")
    return [*lines, ""]


def fixed_table(record: Record) -> list[str]:
    cases = sorted({case for case, _, _ in record.rows if case.startswith("fixed cost")})
    if not cases:
        return []
    lines = [
        "## Fixed cost of the block",
        "",
        "Median us of a call; in brackets the median difference from four linear layers and SDPA in the same turn.",
        "",
        "| shape | | forward | forward and backward |",
        "|---|---|---|---|",
    ]
    for case in cases:
        for system in dict.fromkeys(key[1] for key in record.rows if key[0] == case):
            cells = []
            for passes in ("forward", "forward_backward"):
                extra = record.get(case, system, f"{passes}_beyond_bare")
                told = "" if extra is None else f" ({extra:+.1f})"
                cells.append(f"{record.get(case, system, f'{passes}_time') or math.nan:.1f}{told}")
            lines.append(f"| {case.removeprefix('fixed cost ')} | {system} | {' | '.join(cells)} |")
    return [*lines, ""]


def circumstances(record: Record) -> list[str]:
    """Each different set of versions and machine, with the jobs that ran so."""
    told: dict[str, list[str]] = {}
    for job, about in record.circumstances.items():
        of_versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        of_machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
        told.setdefault(f"{of_machine}. {of_versions}.", []).append(job)
    return [f"- {', '.join(jobs)}: {text}" for text, jobs in told.items()]


def draw(record: Record, path: Path) -> None:
    """Ours and dense SDPA on the CPU, over length."""
    curves = {}
    dense_title = "multihead on heads"
    shown = [(match.title, OURS, match.name) for match in MATCHES if match.backward and match.title != dense_title]
    for title, system, name in [(dense_title, SDPA, "dense SDPA"), *shown]:
        points = []
        for length in lengths_of(record, title, ""):
            time_ms, peak = (record.get(f"{title} {length}", system, metric) for metric in ("time", "peak_memory"))
            if time_ms and peak:
                points.append((length, time_ms / 1e3, peak * 2**20))
        if points:
            curves[name] = points
    if curves:
        draw_growth(path, curves, "forward and backward on the CPU: 8 heads of 64, fp32")
