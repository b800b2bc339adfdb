"""Captions of aerial photos (UCM-Captions): results/ucm_captions.{md,json}.

    python benchmarks/ucm_captions.py train RUNS [RECIPE ...]     # what is missing below the folder RUNS
    python benchmarks/ucm_captions.py write RUNS                  # the page, from the runs and earlier figures

Each score stands beside that of one caption for all photos, since the captions follow templates.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs import Run, train

PAGE = Path(__file__).parent / "results" / "ucm_captions.md"
CASE = "ucm_captions test, 160 photos of 16 classes"
RECIPES = ("show_attend_tell_soft", "show_attend_tell_hard", "transformer")
METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")
CONSTANT = "one caption for all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("recipes", nargs="*", choices=[[], *RECIPES], default=[])
    given = parser.parse_args()
    runs = {recipe: run_of(recipe, given.runs) for recipe in given.recipes or RECIPES}
    if given.action == "train":
        train(runs.values(), at_once=1)
    else:
        write(runs)


def words_of(recipe: str) -> tuple[str, ...]:
    return ("experiment=ucm_captions", f"recipe={recipe}", "seed=1")


def run_of(recipe: str, folder: Path) -> Run:
    return Run(recipe, folder / recipe, words_of(recipe))


def write(runs: dict[str, Run]) -> None:
    """The figures of finished runs, those of earlier calls kept, then the page."""
    json_page = PAGE.with_suffix(".json")
    kept = json.loads(json_page.read_text(encoding="utf-8")) if json_page.exists() else {}
    figures: dict[str, Any] = kept.get("runs", {})
    versions: dict[str, str] = kept.get("versions", {})
    for recipe, run in runs.items():
        summary = run.summary()
        if summary:
            versions = summary["versions"]
            figures[recipe] = {
                "scores": {metric: summary["metrics"][f"test/{metric}"] for metric in METRICS},
                "constant": summary["baselines"],
                "signature": summary["signatures"]["bleu4"],
                "search": summary["search"]["test"],
                "parameters": summary["parameters"],
                "minutes": summary["wall_seconds"] / 60,
                "precision": summary["precision"],
            }
    record = {"rows": list(rows(figures)), "runs": figures, "versions": versions}
    PAGE.parent.mkdir(exist_ok=True)
    json_page.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(page(figures, versions)) + "\n", encoding="utf-8")


def systems(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by system, the constant caption among them."""
    constant = next(iter(figures.values()))["constant"] if figures else {}
    return {CONSTANT: constant, **{recipe: run["scores"] for recipe, run in figures.items()}}


def rows(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """case, system, metric, value, unit."""
    for system, scores in systems(figures).items():
        for metric, value in scores.items():
            yield {
                "case": CASE,
                "system": system,
                "metric": metric,
                "value": value,
                "unit": "0 to 100; CIDEr-D to 1000",
            }


def page(figures: dict[str, Any], versions: dict[str, str]) -> list[str]:
    lines = [
        "# Captions of aerial photos",
        "",
        "Written by `benchmarks/ucm_captions.py`. UCM-Captions, 16 of its 21 classes, photos of 128 x 128: 1,283 to",
        "train on, 160 to test, five references each. All networks start from random weights. Near-duplicate scenes",
        "cross the splits and captions follow templates, so one caption for all photos scores high: read the",
        f"difference. Precision: {', '.join(sorted({run['precision'] for run in figures.values()}))}. Other work had a",
        "share of the cores, so that the minutes are more than a run alone takes.",
        "",
        f"| | {' | '.join(METRICS)} | parameters | minutes of one thread |",
        "|---" * (len(METRICS) + 3) + "|",
    ]
    for system, scores in systems(figures).items():
        run = figures.get(system)
        cost = [f"{run['parameters'] / 1e6:.1f} M", f"{run['minutes']:.0f}"] if run else ["", ""]
        lines.append(f"| {system} | {' | '.join([*(f'{scores[metric]:.1f}' for metric in METRICS), *cost])} |")
    lines += [
        "",
        "Published, with a network pretrained on ImageNet, on the full set (Lu et al. 2017): soft attention BLEU-4",
        "52.5, CIDEr 261; hard attention BLEU-4 61.8, CIDEr 299.",
        "",
        *(f"`attnbuild train {' '.join(words_of(recipe))}`" for recipe in figures),
        "",
        "BLEU-4 is",
        *sorted({f"`{run['signature']}` ({run['search']})" for run in figures.values()}),
    ]
    return [*lines, "", ", ".join(map(" ".join, versions.items()))]


if __name__ == "__main__":
    main()
