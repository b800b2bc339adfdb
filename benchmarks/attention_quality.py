"""Which attention learns how well, and at what cost: many small runs, results/attention_quality.{md,json,png}.

    python benchmarks/attention_quality.py train RUNS [GROUP ...]     # what is missing below the folder RUNS
    python benchmarks/attention_quality.py cost RUNS [GROUP ...]      # speed: all of a group in turns; and memory
    python benchmarks/attention_quality.py write RUNS [GROUP ...]     # the page, from the runs and earlier figures

Every run of a group has the same model but for its attention, the same data and the same number of updates; it
runs on one thread. A figure is the mean of two seeds, with their spread; a speed is the median of the updates of
one seed and wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from attention_groups import COMMON, GROUPS, LENGTH, ROWS, UNITS
from attention_quality_page import Figures, write_page
from joined_news import join_news
from racing import ask, start
from runs import Run, train
from turns import ENDLESS, Turns, serve_training

PAGE = Path(__file__).parent / "results" / "attention_quality.md"
SEEDS = (1, 2)
AT_ONCE = 2
#: Updates that a speed is the median of, and those before them.
ROUNDS, WARM_UP = 11, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "cost", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], default=[])
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="so many runs side by side")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, choices=SEEDS, help="of these seeds alone")
    given = parser.parse_args()
    groups = given.groups or list(GROUPS)
    if "long" in groups:
        join_news(given.runs / "joined_news")
    jobs = list(all_runs(given.runs, groups, given.seeds))
    if given.action == "train":
        train(dict.fromkeys(run for _, _, _, run in jobs), given.at_once)
        return
    figures = Figures.kept_in(PAGE)
    if given.action == "cost":
        for group in groups:
            runs = {variant: run for _, variant, _, run in all_runs(given.runs, [group], SEEDS[:1])}
            figures.speeds[group] = race(runs)
            if "memory" in UNITS[GROUPS[group].metric]:
                figures.memory[group] = {variant: memory_of(run) for variant, run in runs.items()}
    for group, variant, seed, run in jobs:
        summary = run.summary()
        if summary:
            figures.versions = summary["versions"]
            figures.runs.setdefault(group, {}).setdefault(variant, {})[str(seed)] = figures_of(group, summary)
    write_page(figures, PAGE)


def all_runs(folder: Path, groups: Iterable[str], seeds: Iterable[int] = SEEDS) -> Iterator[tuple[str, str, int, Run]]:
    """Group, variant, seed and run; all of a seed before the next. What several groups show is run once."""
    known: dict[tuple[str, ...], Run] = {}
    for seed in seeds:
        for name in groups:
            for variant, more in GROUPS[name].variants.items():
                words = (*COMMON, *GROUPS[name].words, *more, f"seed={seed}")
                words = tuple(word.replace("RUNS", str(folder.absolute())) for word in words)
                place = folder / name / f"{variant.replace(' ', '_')}-{seed}"
                run = known.setdefault(words, Run(f"{name} {variant} seed {seed}", place, words))
                yield name, variant, seed, run


def race(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Target tokens, or examples, per second of each variant: all train as typed and take turns, an update each."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that start
    speeds: dict[str, list[float]] = {variant: [] for variant in runs}
    with tempfile.TemporaryDirectory() as place:
        words = {variant: (*run.words, *ENDLESS, "trainer.threads=1") for variant, run in runs.items()}
        lines = {variant: start(serve_training, Turns, words[variant], place) for variant in runs}
        for line in lines.values():
            line.recv()  # ready
        for number in range(WARM_UP + ROUNDS):
            for variant, line in lines.items():
                seconds, amount, _ = ask(line, "update", rest=0)
                if number >= WARM_UP:
                    speeds[variant].append(amount / seconds)
        for line in lines.values():
            line.send(None)
    return speeds


def figures_of(group: str, summary: dict[str, Any]) -> dict[str, float]:
    """What is kept of a run."""
    metrics = summary["metrics"]
    kept = {"loss": metrics["test/loss"], "parameters": summary["parameters"]}
    if GROUPS[group].metric == "bleu":
        return {"bleu": metrics["test/bleu"], "chrf": metrics["test/chrf"], **kept}
    return {"accuracy": 100 * metrics["test/accuracy"], **kept}


def memory_of(run: Run) -> float:
    """MB that the attention of the encoder takes at most, forward and backward, as ``attnbuild show`` measures it."""
    command = [sys.executable, "-m", "attnbuild", "show", *run.words, f"length={LENGTH}", f"sentences={ROWS}", "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return shown["cost"]["places"]["encoder.attention"]["peak_bytes"] / 2**20


if __name__ == "__main__":
    main()
