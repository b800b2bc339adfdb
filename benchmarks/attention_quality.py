"""Which attention learns how well, and at what cost: many small runs, results/attention_quality.{md,json,png}.

    python benchmarks/attention_quality.py train RUNS [GROUP ...]     # what is missing below the folder RUNS
    python benchmarks/attention_quality.py write RUNS                 # the page, from the runs and earlier figures

Every run of a group has the same model but for its attention, the same data and the same number of
updates; it runs on one thread. A figure is the mean of two seeds, with their spread; a speed is that of the
last seed alone, whose runs have a core each to themselves (``taskset -c 0 ... --at-once 1`` beside other work).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs import Run, data_root, mean_of, spread_of, train

PAGE = Path(__file__).parent / "results" / "attention_quality.md"
SEEDS = (1, 2)
AT_ONCE = 2
COMMON = (
    "trainer.max_minutes=30",  # a guard: runs end by their number of updates
    "validation.maps=1",
    "callbacks.early_stopping=null",
    "average=none",
)
TRANSLATION = (
    *("experiment=multi30k", "recipe=null", "tokenizer.vocab_size=4000", "model.dim=128"),
    *("search=greedy", "model.dropout=0.1", "optimizer.lr=0.003"),
)
RNN = (  # twice as many updates, of half the sentences: before, most scores have not begun to find the words
    *(*TRANSLATION, "encoder=rnn", "decoder=rnn"),
    *("batch.tokens=1024", "trainer.max_steps=1600", "validation.every=800", "scheduler.warmup=400"),
)
TRANSFORMER = (
    *(*TRANSLATION, "encoder.layers=2", "decoder.layers=2", "encoder.feedforward=512", "decoder.feedforward=512"),
    *("trainer.max_steps=800", "validation.every=400", "scheduler.warmup=400"),
)
LONG = (
    *("task=classification", "data=table", "data.source=text", "data.target=label", "tokenizer=byte"),
    *("encoder=transformer", "encoder.layers=2", "encoder.feedforward=128", "decoder.pooling=mean", "model.dim=64"),
    *("batch.rows=16", "batch.tokens=65536", "batch.max_length=4096", "trainer.max_steps=600", "validation.every=300"),
    *("scheduler.warmup=100", "optimizer.lr=0.002", "model.dropout=0.1", "data.root=RUNS/joined_news"),
)
NO_POSITIONS = ("encoder.positions=none", "decoder.positions=none")

#: Of the long inputs: about 800 bytes each.
LENGTH, ROWS = 800, 16


@dataclass(frozen=True)
class Group:
    """Runs that can be compared.

    Attributes:
        title: what is compared.
        data: what on, for the page.
        metric: the headline, of the test split.
        words: what all share.
        variants: name -> what differs.
    """

    title: str
    data: str
    metric: str
    words: tuple[str, ...]
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _cross(names: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"decoder/cross_attention={name}",) for name in names.split()}


def _everywhere(names: str, *more: str) -> dict[str, tuple[str, ...]]:
    return {name: (f"attention={name}", *more) for name in names.split()}


def _within_an_eighth() -> dict[str, tuple[str, ...]]:
    """Patterns and ranks that show a query at most an eighth of LENGTH, and full attention beside them."""
    options = {
        "multihead": "",
        "window": "window=48",
        "dilated": "window=24 dilation=2",
        "block_local": "block_size=96",
        "strided": "stride=28",
        "fixed": "stride=28",
        "logsparse": "local=40",
        "bigbird": "block_size=16 global_blocks=1 random_blocks=2",
        "longformer": "window=48 global_tokens=2",
        "linformer": "projected_len=96 max_len=4096",
        "nystromformer": "landmarks=96",
        "reformer": "chunk_len=24 hash_buckets=32 rounds=2",
        "linear": "",
        "performer": "features=96",
        "cosformer": "max_len=4096",
    }
    return {
        name: (f"attention={name}", *(f"attention.{option}" for option in chosen.split()))
        for name, chosen in options.items()
    }


MULTI30K = "multi30k en-de"
NEWS = "AG News by bytes, four descriptions of one class joined"
GROUPS = {
    "rnn": Group(
        "Cross-attention of a recurrent model (LSTM, Luong's wiring with input feeding)",
        MULTI30K,
        "bleu",
        RNN,
        _cross(
            "none luong_dot luong_general luong_concat bahdanau luong_location location_aware local_m local_p "
            "gaussian hard multihead"
        ),
    ),
    "cross": Group(
        "Cross-attention of a Transformer (multi-head self-attention everywhere)",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {"multihead": ()}
        | _cross(
            "none single_head bahdanau luong_general cosine hard gaussian local_p topk sparsemax entmax15 "
            "linear performer"
        ),
    ),
    "heads": Group(
        "Head layouts, at every place of a Transformer",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {"multihead": ()} | _everywhere("single_head multi_query grouped_query latent talking_heads"),
    ),
    "positions": Group(
        "Positions of a Transformer's self-attention",
        MULTI30K,
        "bleu",
        TRANSFORMER,
        {
            "sinusoidal embeddings": (),
            "none": NO_POSITIONS,
            **_everywhere("rope alibi relative t5", *NO_POSITIONS),
        },
    ),
    "long": Group(
        "Long inputs: patterns and sub-quadratic families in a Transformer encoder with mean pooling",
        NEWS,
        "accuracy",
        LONG,
        _within_an_eighth(),
    ),
}
#: What the figures of a run are, and their units; the headline comes first.
UNITS = {
    "bleu": {"bleu": "BLEU", "chrf": "chrF", "loss": "nats", "parameters": "count", "speed": "target tokens/s"},
    "accuracy": {"accuracy": "percent", "loss": "nats", "parameters": "count", "speed": "examples/s", "memory": "MB"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], default=[])
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="so many runs side by side")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, choices=SEEDS, help="of these seeds alone")
    given = parser.parse_args()
    jobs = list(all_runs(given.runs, given.groups or list(GROUPS), given.seeds))
    if given.action == "train":
        if "long" in (given.groups or GROUPS):
            join_news(given.runs / "joined_news")
        train(dict.fromkeys(run for _, _, _, run in jobs), given.at_once)
    else:
        write(jobs)


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


def join_news(folder: Path) -> None:
    """Tables of texts, each four descriptions of one class drawn at random: 8,000 / 500 / 1,900."""
    if folder.is_dir():
        return
    draw = random.Random(0)
    train_rows, test_rows = (read_news(name) for name in ("agnews_desc_train10k.csv", "agnews_desc_test_official.csv"))
    draw.shuffle(train_rows)
    folder.mkdir(parents=True)
    write_table(folder / "train.csv", joined_at_random(train_rows[:-1000], 8000, draw))
    write_table(folder / "validation.csv", joined_at_random(train_rows[-1000:], 500, draw))
    write_table(folder / "test.csv", joined_once(test_rows, draw))


def read_news(name: str) -> list[tuple[str, str]]:
    """(label, text) of a file."""
    with gzip.open(data_root() / "textcls" / f"{name}.gz", "rt", encoding="utf-8", newline="") as file:
        return [(row["label"], row["text"]) for row in csv.DictReader(file)]


def by_label(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {label: [text for other, text in rows if other == label] for label in sorted({row[0] for row in rows})}


def joined_at_random(rows: list[tuple[str, str]], count: int, draw: random.Random) -> list[tuple[str, str]]:
    texts = by_label(rows)
    labels = [draw.choice(list(texts)) for _ in range(count)]
    return [(label, " ".join(draw.sample(texts[label], 4))) for label in labels]


def joined_once(rows: list[tuple[str, str]], draw: random.Random) -> list[tuple[str, str]]:
    """Every text in one of the joined ones, those left over at the end apart."""
    joined = []
    for label, texts in by_label(rows).items():
        draw.shuffle(texts)
        joined += [(label, " ".join(texts[start : start + 4])) for start in range(0, len(texts) - 3, 4)]
    return joined


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])


def write(jobs: list[tuple[str, str, int, Run]]) -> None:
    """The figures of finished runs, those of earlier calls kept, then the page."""
    json_page = PAGE.with_suffix(".json")
    kept = json.loads(json_page.read_text(encoding="utf-8")) if json_page.exists() else {}
    figures: dict[str, Any] = kept.get("runs", {})
    versions: dict[str, str] = kept.get("versions", {})
    for group, variant, seed, run in jobs:
        summary = run.summary()
        if summary:
            versions = summary["versions"]
            figures.setdefault(group, {}).setdefault(variant, {})[str(seed)] = figures_of(group, run, summary)
    json_page.write_text(
        json.dumps({"rows": list(rows(figures)), "runs": figures, "versions": versions}, indent=1) + "\n",
        encoding="utf-8",
    )
    PAGE.write_text("\n".join(page(figures, versions)) + "\n", encoding="utf-8")
    draw(figures)


def figures_of(group: str, run: Run, summary: dict[str, Any]) -> dict[str, float]:
    """What is kept of a run."""
    metrics = summary["metrics"]
    kept = {"loss": metrics["test/loss"], "parameters": summary["parameters"], "wall_seconds": summary["wall_seconds"]}
    if GROUPS[group].metric == "bleu":
        speed = summary["tokens_per_second"]
        return {"bleu": metrics["test/bleu"], "chrf": metrics["test/chrf"], "speed": speed, **kept}
    accuracy = 100 * metrics["test/accuracy"]
    return {"accuracy": accuracy, "speed": summary["examples_per_second"], "memory": memory_of(run), **kept}


def memory_of(run: Run) -> float:
    """MB that the attention of the encoder takes at most, forward and backward, as ``attnbuild show`` measures it."""
    command = [sys.executable, "-m", "attnbuild", "show", *run.words, f"length={LENGTH}", f"sentences={ROWS}", "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return shown["cost"]["places"]["encoder.attention"]["peak_bytes"] / 2**20


def rows(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """case, system, metric, value, unit."""
    for group, variants in figures.items():
        for variant, seeds in variants.items():
            for metric, unit in UNITS[GROUPS[group].metric].items():
                value = figure_of(seeds, metric)
                case = f"{GROUPS[group].data}, {group}"
                yield {"case": case, "system": variant, "metric": metric, "value": value, "unit": unit}


def figure_of(seeds: dict[str, Any], metric: str) -> float:
    """The mean over seeds; a speed is of the last seed alone."""
    return seeds[max(seeds)][metric] if metric == "speed" else mean_of(seeds, metric)


def page(figures: dict[str, Any], versions: dict[str, str]) -> list[str]:
    lines = [
        "# Which attention learns how well, and at what cost",
        "",
        "Written by `benchmarks/attention_quality.py`. Each figure is the mean of two seeds ± half their difference.",
        "",
        "Translation: Multi30k English-German, test_2016_flickr, cased sacreBLEU of greedy outputs; small models",
        "(dim 128, BPE 4k) on one CPU thread, 800 updates of 2048 tokens, recurrent ones 1600 of 1024: these rank",
        "mechanisms early in training, and are far from converged. Classification: AG News read byte by byte, four",
        "descriptions of one class joined to about 800 bytes; two layers of 64, mean pooling, 600 updates of 16 texts;",
        "a query sees at most an eighth of the text, or that many features or slots. Speeds are of the second seed,",
        "each run alone on its core.",
    ]
    for name, group in GROUPS.items():
        measured = figures.get(name, {})
        if not measured:
            continue
        columns = [metric for metric in UNITS[group.metric] if metric != "chrf"]
        units = [UNITS[group.metric][metric] for metric in columns]
        lines += ["", f"## {group.title}", "", "| attention | " + " | ".join(map(_column, columns, units)) + " |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        for variant in sorted(measured, key=lambda key: -mean_of(measured[key], group.metric)):
            cells = [_cell(measured[variant], metric) for metric in columns]
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        words = " ".join([*COMMON, *group.words])
        lines += ["", f"`attnbuild train {words}` and the attention's own words, such as", ""]
        lines.append(f"`{' '.join(list(group.variants.values())[1])}`.")
    return [
        *lines,
        "",
        "![quality against cost](attention_quality.png)",
        "",
        ", ".join(map(" ".join, versions.items())),
    ]


def _column(metric: str, unit: str) -> str:
    named = {"accuracy": "accuracy, %", "loss": "test loss", "speed": unit, "memory": "attention's peak MB"}
    return named.get(metric, unit if metric == "bleu" else metric)


def _cell(seeds: dict[str, Any], metric: str) -> str:
    value = figure_of(seeds, metric)
    if metric in ("bleu", "accuracy"):
        return f"{value:.1f} ± {spread_of(seeds, metric):.1f}"
    return {"loss": f"{value:.2f}", "parameters": f"{value / 1e6:.2f} M"}.get(metric, f"{value:.0f}")


def draw(figures: dict[str, Any]) -> None:
    """Quality against cost, one panel a group."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * max(1, len(figures)), 4), layout="constrained")
    panels = figure.subplots(1, max(1, len(figures)), squeeze=False)[0]
    for axes, (group, variants) in zip(panels, figures.items(), strict=False):
        metric = GROUPS[group].metric
        for variant, seeds in variants.items():
            point = (figure_of(seeds, "speed"), mean_of(seeds, metric))
            axes.errorbar(*point, yerr=spread_of(seeds, metric), fmt="o", color="C0")
            axes.annotate(variant, point, fontsize=7, xytext=(3, 3), textcoords="offset points")
        speed = UNITS[metric]["speed"]
        axes.set(xlabel=f"training speed, {speed}", ylabel=f"test {UNITS[metric][metric]}", title=group)
        axes.grid(alpha=0.3)
    figure.savefig(PAGE.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
