"""Multi30k English-German: score finished runs on test_2016_flickr and write results/multi30k.{md,json,png}.

    attnbuild train experiment=multi30k recipe=transformer_tiny        # and the other recipes
    python benchmarks/multi30k.py outputs/translation/DATE/RUN ...

Each run is decoded greedily and with beam 5. Two scores, each with its signature: cased sacreBLEU on raw
text (13a), and the lower-cased, tokenised BLEU of most papers (sacremoses on both sides, tokenize=none).
BLEU by source length is figure 2 of Bahdanau et al. 2015 on this data.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sacrebleu
from sacremoses import MosesTokenizer

import attnbuild
from attnbuild.training.run import RunFolder

RESULTS = Path(__file__).parent / "results"
SEARCHES: dict[str, dict[str, Any]] = {"greedy": {"type": "greedy"}, "beam5": {"type": "beam", "beam": 5}}
THIRDS = ("short", "middle", "long")


@dataclass
class Scored:
    """One run with its scores.

    Attributes:
        recipe: the name of its model.
        values: (metric, unit) -> value.
        by_third: cased beam-5 BLEU on the shortest, middle and longest third of the source sentences.
        by_length: (mean source words, cased beam-5 BLEU) of eight equal groups of sentences.
        curve: (step, validation BLEU).
    """

    recipe: str
    run: RunFolder
    values: dict[tuple[str, str], float] = field(default_factory=dict)
    by_third: list[float] = field(default_factory=list)
    by_length: list[tuple[float, float]] = field(default_factory=list)
    curve: list[tuple[int, float]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    scored = [score_run(RunFolder.open(path)) for path in parser.parse_args().runs]
    RESULTS.mkdir(exist_ok=True)
    write_json(scored)
    draw(scored)
    write_page(scored)


def score_run(run: RunFolder) -> Scored:
    """Decode the test set and score it."""
    loaded = attnbuild.load(run.path)
    loaded.task.prepare(("test",))
    corpus = loaded.task.corpora["test"]
    sources, references = corpus.texts(range(len(corpus)))
    result = Scored(recipe_of(run), run, curve=learning_curve(run))
    for name, section in SEARCHES.items():
        search = loaded.task.search(section)
        outputs = [prediction.text for prediction in loaded.task.predict(loaded.model, sources, search)]
        result.values[f"{name}_bleu_cased", "BLEU"] = cased(outputs, references)
        result.values[f"{name}_bleu_lower_tokenised", "BLEU"] = lower_tokenised(outputs, references)
    result.by_third = [value for _, value in bleu_by_length(sources, outputs, references, 3)]
    result.by_length = bleu_by_length(sources, outputs, references, 8)
    summary = run.read_summary()
    for third, value in zip(THIRDS, result.by_third, strict=True):
        result.values[f"beam5_bleu_cased_{third}", "BLEU"] = value
    result.values["parameters", "count"] = summary["parameters"]
    result.values["wall_time", "s"] = summary["wall_seconds"]
    result.values["tokens_per_second", "1/s"] = summary["tokens_per_second"]
    result.values["updates", "count"] = result.curve[-1][0]
    return result


def recipe_of(run: RunFolder) -> str:
    typed = dict(word.partition("=")[::2] for word in run.read_overrides())
    return typed.get("recipe", "transformer_tiny")


def learning_curve(run: RunFolder) -> list[tuple[int, float]]:
    with run.metrics_file.open(encoding="utf-8") as file:
        return [
            (int(row["step"]), float(row["value"]))
            for row in csv.DictReader(file)
            if row["metric"] == "validation/bleu"
        ]


def cased(outputs: list[str], references: list[str]) -> float:
    return sacrebleu.BLEU().corpus_score(outputs, [references]).score


def lower_tokenised(outputs: list[str], references: list[str]) -> float:
    moses = MosesTokenizer(lang="de")

    def prepared(lines: list[str]) -> list[str]:
        return [moses.tokenize(line.lower(), return_str=True, escape=False) for line in lines]

    return lower_scorer().corpus_score(prepared(outputs), [prepared(references)]).score


def lower_scorer() -> sacrebleu.BLEU:
    return sacrebleu.BLEU(tokenize="none", force=True)


def signatures() -> dict[str, str]:
    """What the two scores are, as sacrebleu writes it."""
    scorers = {"cased": sacrebleu.BLEU(), "lower_tokenised": lower_scorer()}
    for scorer in scorers.values():
        scorer.corpus_score(["a"], [["a"]])
    return {name: str(scorer.get_signature()) for name, scorer in scorers.items()}


def bleu_by_length(
    sources: list[str], outputs: list[str], references: list[str], groups: int
) -> list[tuple[float, float]]:
    """Cased BLEU of equal groups of sentences, shortest sources first, with the mean words of each."""
    order = sorted(range(len(sources)), key=lambda index: len(sources[index].split()))
    bounds = [round(group * len(order) / groups) for group in range(groups + 1)]
    points = []
    for start, end in itertools.pairwise(bounds):
        group = order[start:end]
        words = sum(len(sources[index].split()) for index in group) / len(group)
        points.append((words, cased([outputs[index] for index in group], [references[index] for index in group])))
    return points


def write_json(scored: list[Scored]) -> None:
    rows = [
        {
            "case": "multi30k en-de test_2016_flickr",
            "system": f"attnbuild {run.recipe}",
            "metric": metric,
            "value": value,
            "unit": unit,
        }
        for run in scored
        for (metric, unit), value in run.values.items()
    ]
    text = json.dumps({"signatures": signatures(), "versions": versions(scored), "rows": rows}, indent=1)
    (RESULTS / "multi30k.json").write_text(text + "\n", encoding="utf-8")


def versions(scored: list[Scored]) -> dict[str, str]:
    return scored[0].run.read_summary()["versions"]


def draw(scored: list[Scored]) -> None:
    """Learning curves, and BLEU by source length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    curves, lengths = figure.subplots(1, 2)
    for run in scored:
        curves.plot(*zip(*run.curve, strict=True), label=run.recipe)
        lengths.plot(*zip(*run.by_length, strict=True), marker="o", label=run.recipe)
    curves.set(xlabel="updates", ylabel="validation BLEU (greedy)", title="learning curves")
    lengths.set(xlabel="source words", ylabel="test BLEU (beam 5)", title="BLEU by source length")
    for axes in (curves, lengths):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(RESULTS / "multi30k.png", dpi=110)


def write_page(scored: list[Scored]) -> None:
    lines = [
        "# Multi30k English-German, test_2016_flickr",
        "",
        "Written by `benchmarks/multi30k.py`. BLEU with beam 5, greedy in brackets. Trained on a CPU, with so many",
        "threads, beside other work.",
        "",
        "| recipe | cased sacreBLEU | lower-cased, tokenised | parameters | updates | training | threads |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in scored:
        value = {metric: number for (metric, _), number in run.values.items()}
        lines.append(
            f"| {run.recipe} | {value['beam5_bleu_cased']:.1f} ({value['greedy_bleu_cased']:.1f}) "
            f"| {value['beam5_bleu_lower_tokenised']:.1f} ({value['greedy_bleu_lower_tokenised']:.1f}) "
            f"| {value['parameters'] / 1e6:.2f} M | {value['updates']:.0f} | {value['wall_time'] / 60:.0f} min "
            f"| {run.run.read_config()['trainer']['threads'] or 'all'} |"
        )
    lines += ["", "## By source length", "", "Cased BLEU, beam 5, on each third of the test sentences.", ""]
    lines += [f"| recipe | {' | '.join(THIRDS)} |", "|---|---|---|---|"]
    lines += [f"| {run.recipe} | {' | '.join(f'{value:.1f}' for value in run.by_third)} |" for run in scored]
    lines += ["", "![learning curves, and BLEU by source length](multi30k.png)", "", "## How", ""]
    lines += [f"- {name}: `{signature}`" for name, signature in signatures().items()]
    lines += ["", "```", *(f"attnbuild train {' '.join(run.run.read_overrides())}" for run in scored), "```", ""]
    lines += [", ".join(f"{name} {version}" for name, version in versions(scored).items()) + ".", ""]
    (RESULTS / "multi30k.md").write_text("\n".join(lines), encoding="utf-8")
    print((RESULTS / "multi30k.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except attnbuild.AttnbuildError as error:
        sys.exit(str(error))
