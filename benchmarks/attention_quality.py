"""Which attention translates how well: many small Multi30k runs, results/attention_quality.{md,json,png}.

    python benchmarks/attention_quality.py train RUNS [GROUP ...]     # what is missing below the folder RUNS
    python benchmarks/attention_quality.py write RUNS                 # the page, from the runs and earlier figures

Every run of a group has the same model but for its attention, the same data and the same number of
updates; it runs on one thread, two runs at a time. A figure is the mean of two seeds, with their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

PAGE = Path(__file__).parent / "results" / "attention_quality.md"
SEEDS = (1, 2)
JOBS = 2
COMMON = [
    "experiment=multi30k",
    "recipe=null",
    "tokenizer.vocab_size=4000",
    "model.dim=128",
    "trainer.threads=1",
    "trainer.max_minutes=30",  # a guard: runs end by their number of updates
    "trainer.max_steps=800",
    "validation.every=400",
    "validation.maps=1",
    "callbacks.early_stopping=null",
    "average=none",
    "search=greedy",
]
RNN = ["encoder=rnn", "decoder=rnn", "optimizer.lr=0.003", "scheduler.warmup=200", "model.dropout=0.1"]
TRANSFORMER = [
    *("encoder.layers=2", "decoder.layers=2", "encoder.feedforward=512", "decoder.feedforward=512"),
    *("optimizer.lr=0.003", "scheduler.warmup=400", "model.dropout=0.1"),
]
NO_POSITIONS = ["encoder.positions=none", "decoder.positions=none"]


@dataclass(frozen=True)
class Group:
    """Runs that can be compared.

    Attributes:
        title: what is compared.
        model: the overrides that all share.
        variants: name -> what differs.
    """

    title: str
    model: list[str]
    variants: dict[str, list[str]] = field(default_factory=dict)


def _cross(names: str) -> dict[str, list[str]]:
    return {name: [f"decoder/cross_attention={name}"] for name in names.split()}


def _everywhere(names: str, *more: str) -> dict[str, list[str]]:
    return {name: [f"attention={name}", *more] for name in names.split()}


GROUPS = {
    "rnn": Group(
        "Cross-attention of a recurrent model (LSTM, Luong's wiring with input feeding)",
        RNN,
        _cross(
            "none luong_dot luong_general luong_concat bahdanau luong_location location_aware local_m local_p "
            "gaussian hard multihead"
        ),
    ),
    "cross": Group(
        "Cross-attention of a Transformer (multi-head self-attention everywhere)",
        TRANSFORMER,
        _cross(
            "none multihead single_head bahdanau luong_general cosine hard gaussian local_p topk sparsemax entmax15 "
            "linear performer"
        ),
    ),
    "heads": Group(
        "Head layouts, at every place of a Transformer",
        TRANSFORMER,
        _everywhere("multihead single_head multi_query grouped_query latent talking_heads"),
    ),
    "positions": Group(
        "Positions of a Transformer's self-attention",
        TRANSFORMER,
        {
            "sinusoidal embeddings": ["attention=multihead"],
            "none": ["attention=multihead", *NO_POSITIONS],
            **_everywhere("rope alibi relative t5", *NO_POSITIONS),
        },
    ),
}


@dataclass(frozen=True)
class Job:
    """One training: a variant of a group with a seed, in a folder of its own."""

    group: str
    variant: str
    seed: int

    def overrides(self) -> list[str]:
        group = GROUPS[self.group]
        return [*COMMON, *group.model, *group.variants[self.variant], f"seed={self.seed}"]

    def folder(self, runs: Path) -> Path:
        return runs / self.group / f"{self.variant.replace(' ', '_')}-{self.seed}"

    def summary(self, runs: Path) -> dict[str, Any] | None:
        """Of the finished run; None where there is none."""
        for path in self.folder(runs).rglob("summary.json"):
            summary = json.loads(path.read_text(encoding="utf-8"))
            if summary["status"] == "ok":
                return summary
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], default=[])
    given = parser.parse_args()
    jobs = [
        Job(name, variant, seed)
        for seed in SEEDS
        for name in given.groups or GROUPS
        for variant in GROUPS[name].variants
    ]
    if given.action == "train":
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(lambda job: train(job, given.runs), jobs))
    else:
        write(given.runs, jobs)


def train(job: Job, runs: Path) -> None:
    """Run a job that has not finished before."""
    if job.summary(runs):
        return
    shutil.rmtree(job.folder(runs), ignore_errors=True)
    job.folder(runs).mkdir(parents=True)
    command = [sys.executable, "-m", "attnbuild", "train", *job.overrides(), f"paths.outputs={job.folder(runs)}"]
    with (job.folder(runs) / "typed.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
        )
    summary = job.summary(runs)
    told = f"BLEU {summary['metrics']['test/bleu']:.1f}" if summary else f"failed with exit code {done.returncode}"
    print(f"{job.group} {job.variant} seed {job.seed}: {told}", flush=True)


def write(runs: Path, jobs: list[Job]) -> None:
    """The figures of finished jobs, those of earlier calls kept, then the page."""
    kept = (
        json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8")) if PAGE.with_suffix(".json").exists() else {}
    )
    figures: dict[str, Any] = kept.get("runs", {})
    versions: dict[str, str] = kept.get("versions", {})
    for job in jobs:
        summary = job.summary(runs)
        if summary:
            versions = summary["versions"]
            figures.setdefault(job.group, {}).setdefault(job.variant, {})[str(job.seed)] = {
                "bleu": summary["metrics"]["test/bleu"],
                "chrf": summary["metrics"]["test/chrf"],
                "loss": summary["metrics"]["test/loss"],
                "parameters": summary["parameters"],
                "tokens_per_second": summary["tokens_per_second"],
                "wall_seconds": summary["wall_seconds"],
            }
    PAGE.with_suffix(".json").write_text(
        json.dumps({"rows": list(rows(figures)), "runs": figures, "versions": versions}, indent=1) + "\n",
        encoding="utf-8",
    )
    PAGE.write_text("\n".join(page(figures, versions)) + "\n", encoding="utf-8")
    draw(figures)


def rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """case, system, metric, value, unit: the mean over seeds."""
    units = {"bleu": "BLEU", "chrf": "chrF", "loss": "nats", "parameters": "count", "tokens_per_second": "1/s"}
    return [
        {
            "case": f"multi30k en-de, {group}",
            "system": variant,
            "metric": metric,
            "value": mean(run[metric] for run in seeds.values()),
            "unit": unit,
        }
        for group, variants in figures.items()
        for variant, seeds in variants.items()
        for metric, unit in units.items()
    ]


def page(figures: dict[str, Any], versions: dict[str, str]) -> list[str]:
    lines = [
        "# Which attention translates how well",
        "",
        "Written by `benchmarks/attention_quality.py`. Multi30k English-German, test_2016_flickr, cased sacreBLEU of",
        "greedy outputs: the mean of two seeds ± half their difference. Small models (dim 128, BPE 4k), 800 updates of",
        "2048 tokens, one CPU thread: these figures rank mechanisms early in training, and are far from converged.",
        "Tokens/s are of the same runs, two at a time on a machine that did other work: read them as rough.",
    ]
    for name, group in GROUPS.items():
        measured = figures.get(name, {})
        if not measured:
            continue
        lines += [
            "",
            f"## {group.title}",
            "",
            "| attention | BLEU | test loss | parameters | target tokens/s |",
            "|---|---|---|---|---|",
        ]
        for variant in sorted(measured, key=lambda key: -_mean(measured[key], "bleu")):
            seeds = measured[variant]
            lines.append(
                f"| {variant} | {_mean(seeds, 'bleu'):.1f} ± {_spread(seeds, 'bleu'):.1f} | {_mean(seeds, 'loss'):.2f} "
                f"| {_mean(seeds, 'parameters') / 1e6:.2f} M | {_mean(seeds, 'tokens_per_second'):.0f} |"
            )
        lines += ["", f"`attnbuild train {' '.join([*COMMON, *group.model])}` and the attention's own override."]
    return [
        *lines,
        "",
        "![quality against cost](attention_quality.png)",
        "",
        ", ".join(map(" ".join, versions.items())),
    ]


def _mean(seeds: dict[str, Any], metric: str) -> float:
    return mean(run[metric] for run in seeds.values())


def _spread(seeds: dict[str, Any], metric: str) -> float:
    values = [run[metric] for run in seeds.values()]
    return (max(values) - min(values)) / 2


def draw(figures: dict[str, Any]) -> None:
    """Quality against cost, one panel a group."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * max(1, len(figures)), 4), layout="constrained")
    for axes, (group, variants) in zip(
        figure.subplots(1, max(1, len(figures)), squeeze=False)[0], figures.items(), strict=False
    ):
        for variant, seeds in variants.items():
            point = (_mean(seeds, "tokens_per_second"), _mean(seeds, "bleu"))
            axes.errorbar(*point, yerr=_spread(seeds, "bleu"), fmt="o", color="C0")
            axes.annotate(variant, point, fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.set(xlabel="training speed, target tokens/s", ylabel="test BLEU", title=group)
        axes.grid(alpha=0.3)
    figure.savefig(PAGE.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
