"""Classification on real data: results/classification.{md,json}.

    python benchmarks/classification.py train RUNS [CASE ...]     # what is missing below the folder RUNS
    python benchmarks/classification.py write RUNS                # the page, from the runs and earlier figures

Text is held against TF-IDF with logistic regression, fitted here on the same split.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs import Run, data_root, mean_of, spread_of, train

PAGE = Path(__file__).parent / "results" / "classification.md"
FEATURE_ATTENTIONS = ("none", "se", "cbam", "eca", "coordinate")
BASELINE = "TF-IDF, logistic regression"
OURS = "attnbuild"


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        title: for the page.
        words: what is typed after ``attnbuild train``.
        variants: system -> what differs.
        seeds: how many.
        at_once: runs at a time.
        threads: of each.
        files: names of the tables of the baseline: training and test.
    """

    title: str
    words: tuple[str, ...]
    variants: dict[str, tuple[str, ...]] = field(default_factory=lambda: {OURS: ()})
    seeds: int = 3
    at_once: int = 2
    threads: int = 1
    files: tuple[str, str] | None = None


CASES = {
    "trec6": Case("TREC-6, 4,952 questions", ("experiment=trec",), files=("trec6_train.csv", "trec6_test.csv")),
    "sst2": Case("SST-2, 6,920 sentences", ("experiment=sst2",), files=("sst2_train.csv", "sst2_test.csv")),
    "agnews": Case(
        "AG News, 8,991 descriptions",
        ("experiment=ag_news",),
        files=("agnews_desc_train10k.csv", "agnews_desc_test_official.csv"),
    ),
    "cifar10_cnn": Case(
        "CIFAR-10, 18,000 images, recipe=resnet_small",
        ("experiment=cifar10", "trainer.max_steps=2100", "trainer.max_minutes=90", "scheduler.warmup=150"),
        seeds=1,
        at_once=1,
    ),
    "cifar10_vit": Case(
        "CIFAR-10, 18,000 images, recipe=vit_small",
        (
            *("experiment=cifar10", "recipe=vit_small", "trainer.max_steps=1000", "trainer.max_minutes=25"),
            *("scheduler.warmup=100", "validation.every=200"),
        ),
        seeds=1,
        at_once=1,
        threads=2,
    ),
    "cifar10_cnn_features": Case(
        "CIFAR-10, 18,000 images: feature attentions in the network, an equal time each",
        (
            *("experiment=cifar10", "encoder.width=16", "scheduler=constant", "scheduler.warmup=100"),
            *("optimizer.lr=0.002", "trainer.max_steps=100000", "trainer.max_minutes=5", "validation.every=200"),
        ),
        variants={name: (f"encoder.feature_attention={name}",) for name in FEATURE_ATTENTIONS},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    given = parser.parse_args()
    cases = given.cases or list(CASES)
    if given.action == "train":
        for case in cases:
            train((run for _, _, run in runs_of(case, given.runs)), CASES[case].at_once)
    else:
        write(given.runs)


def runs_of(case: str, folder: Path) -> Iterator[tuple[str, int, Run]]:
    """System, seed and run; all systems of a seed before the next."""
    asked = CASES[case]
    for seed in range(1, asked.seeds + 1):
        for system, more in asked.variants.items():
            words = (*asked.words, *more, f"seed={seed}")
            yield (
                system,
                seed,
                Run(f"{case} {system} seed {seed}", folder / case / f"{system}-{seed}", words, asked.threads),
            )


def write(folder: Path) -> None:
    """The figures of finished runs, those of earlier calls kept, then the page."""
    json_page = PAGE.with_suffix(".json")
    kept = json.loads(json_page.read_text(encoding="utf-8")) if json_page.exists() else {}
    figures: dict[str, Any] = kept.get("runs", {})
    versions: dict[str, str] = kept.get("versions", {})
    for case in CASES:
        for system, seed, run in runs_of(case, folder):
            summary = run.summary()
            if summary:
                versions = summary["versions"]
                figures.setdefault(case, {}).setdefault(system, {})[str(seed)] = figures_of(summary)
    baselines = {**kept.get("baselines", {}), **{case: baseline(case) for case in figures if CASES[case].files}}
    record = {"rows": list(rows(figures, baselines)), "runs": figures, "baselines": baselines, "versions": versions}
    PAGE.parent.mkdir(exist_ok=True)
    json_page.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(page(figures, baselines, versions)) + "\n", encoding="utf-8")


def figures_of(summary: dict[str, Any]) -> dict[str, Any]:
    metrics = summary["metrics"]
    return {
        "accuracy": 100 * metrics["test/accuracy"],
        "f1_macro": 100 * metrics["test/f1_macro"],
        "calibration_error": 100 * metrics["test/calibration_error"],
        "parameters": summary["parameters"],
        "examples_per_second": summary["examples_per_second"],
        "minutes": summary["wall_seconds"] / 60,
        "precision": summary.get("precision", "32-true"),  # older runs do not say, and took this
    }


def baseline(case: str) -> float:
    """Accuracy in percent of TF-IDF over words and pairs of words with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    files = CASES[case].files
    assert files is not None
    (texts, labels), (held_texts, held_labels) = (read_table(name) for name in files)
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )
    return 100 * float(model.fit(texts, labels).score(held_texts, held_labels))


def read_table(name: str) -> tuple[list[str], list[str]]:
    with gzip.open(data_root() / "textcls" / f"{name}.gz", "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return [row["text"] for row in table], [row["label"] for row in table]


def rows(figures: dict[str, Any], baselines: dict[str, float]) -> Iterator[dict[str, Any]]:
    """case, system, metric, value, unit: the mean over seeds."""
    for case, systems in figures.items():
        for system, seeds in systems.items():
            for metric in (name for name in next(iter(seeds.values())) if name != "precision"):
                unit = {"parameters": "count", "examples_per_second": "1/s", "minutes": "min"}.get(metric, "percent")
                yield {"case": case, "system": system, "metric": metric, "value": mean_of(seeds, metric), "unit": unit}
    for case, value in baselines.items():
        yield {"case": case, "system": BASELINE, "metric": "accuracy", "value": value, "unit": "percent"}


def page(figures: dict[str, Any], baselines: dict[str, float], versions: dict[str, str]) -> list[str]:
    lines = [
        "# Classification on real data",
        "",
        "Written by `benchmarks/classification.py`. Test accuracy in percent: the mean over seeds ± half of what parts",
        "the best from the worst. Models are chosen on validation data; test data is scored once. Where other work had",
        "a share of the cores, minutes are more, and examples/s fewer, than of a run alone.",
    ]
    for case in (name for name in CASES if name in figures):
        asked, systems = CASES[case], figures[case]
        lines += [
            "",
            f"## `{case}`: {asked.title}",
            "",
            "| | accuracy | macro F1 | calibration error | parameters | examples/s | minutes |",
        ]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [
            _row(system, seeds)
            for system, seeds in sorted(systems.items(), key=lambda item: -mean_of(item[1], "accuracy"))
        ]
        if case in baselines:
            lines.append(f"| {BASELINE} | {baselines[case]:.1f} | | | | | |")
        seeds = f", {asked.seeds} seeds" if asked.seeds > 1 else ""
        threads = "one CPU thread" if asked.threads == 1 else f"{asked.threads} CPU threads"
        precision = sorted({run.get("precision", "32-true") for runs in systems.values() for run in runs.values()})
        lines += ["", f"`attnbuild train {' '.join(asked.words)}`, {', '.join(precision)}, {threads}{seeds}."]
        if len(asked.variants) > 1:
            lines.append(f"Each with its own word, such as `{' '.join(list(asked.variants.values())[1])}`.")
    return [*lines, "", ", ".join(map(" ".join, versions.items()))]


def _row(system: str, seeds: dict[str, Any]) -> str:
    spread = f" ± {spread_of(seeds, 'accuracy'):.1f}" if len(seeds) > 1 else ""
    scores = [
        f"{mean_of(seeds, 'accuracy'):.1f}{spread}",
        *(f"{mean_of(seeds, name):.1f}" for name in ("f1_macro", "calibration_error")),
    ]
    cost = [
        f"{mean_of(seeds, 'parameters') / 1e6:.2f} M",
        f"{mean_of(seeds, 'examples_per_second'):.0f}",
        f"{mean_of(seeds, 'minutes'):.1f}",
    ]
    return f"| {system} | {' | '.join([*scores, *cost])} |"


if __name__ == "__main__":
    main()
