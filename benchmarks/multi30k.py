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
import dataclasses
import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sacrebleu
from sacremoses import MosesTokenizer

import attnbuild
from attnbuild.training.checkpoint import Loaded
from attnbuild.training.run import RunFolder

PAGE = Path(__file__).parent / "results" / "multi30k.md"
CASE = "multi30k en-de test_2016_flickr"
SEARCHES: dict[str, dict[str, Any]] = {"greedy": {"type": "greedy"}, "beam5": {"type": "beam", "beam": 5}}
THIRDS = ("short", "middle", "long")


@dataclass
class Scored:
    """One run with its scores, in plain values, so that pages can be written again without the run.

    Attributes:
        recipe: the name of its model.
        command: what was typed after ``attnbuild train``.
        threads: CPU threads it trained with, 0 = all.
        versions: of what it was trained with.
        values: metric -> (value, unit).
        by_third: cased beam-5 BLEU on the shortest, middle and longest third of the source sentences.
        by_length: (mean source words, cased beam-5 BLEU) of eight equal groups of sentences.
        curve: (step, validation BLEU).
    """

    recipe: str
    command: str
    threads: int
    versions: dict[str, str]
    curve: list[tuple[int, float]]
    values: dict[str, tuple[float, str]] = field(default_factory=dict)
    by_third: list[float] = field(default_factory=list)
    by_length: list[tuple[float, float]] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs; those of other recipes stay as they were")
    scored = {run.recipe: run for run in read_scored()}
    for path in parser.parse_args().runs:
        run = score_run(RunFolder.open(path))
        scored[run.recipe] = run
    write(list(scored.values()))


def read_scored() -> list[Scored]:
    """What earlier calls measured."""
    if not PAGE.with_suffix(".json").is_file():
        return []
    known = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    return [Scored(**run) for run in known["runs"]]


def write(scored: list[Scored]) -> None:
    """The figures, the picture and the page."""
    scored.sort(key=lambda run: -run.values["beam5_bleu_cased"][0])
    PAGE.parent.mkdir(exist_ok=True)
    write_json(scored)
    draw(scored)
    write_page(scored)


def score_run(run: RunFolder) -> Scored:
    """Decode the test set and score it."""
    loaded, summary, typed = attnbuild.load(run.path), run.read_summary(), run.read_overrides()
    loaded.task.prepare(("test",))
    corpus = loaded.task.corpora["test"]
    sources, references = corpus.texts(range(len(corpus)))
    threads = loaded.config["trainer"]["threads"] or 0
    result = Scored(recipe_of(typed), " ".join(typed), threads, summary["versions"], learning_curve(run))
    for name, section in SEARCHES.items():
        outputs = outputs_of(loaded, section, sources)
        result.values[f"{name}_bleu_cased"] = (cased(outputs, references), "BLEU")
        result.values[f"{name}_bleu_lower_tokenised"] = (lower_tokenised(outputs, references), "BLEU")
    result.by_third = [value for _, value in bleu_by_length(sources, outputs, references, 3)]
    result.by_length = bleu_by_length(sources, outputs, references, 8)
    for third, value in zip(THIRDS, result.by_third, strict=True):
        result.values[f"beam5_bleu_cased_{third}"] = (value, "BLEU")
    result.values["parameters"] = (summary["parameters"], "count")
    result.values["wall_time"] = (summary["wall_seconds"], "s")
    result.values["tokens_per_second"] = (summary["tokens_per_second"], "1/s")
    result.values["updates"] = (result.curve[-1][0], "count")
    return result


def outputs_of(loaded: Loaded, section: dict[str, Any], sources: list[str]) -> list[str]:
    """What a model writes for these sources, by the search of a section of config."""
    search = loaded.task.search(section)
    return [prediction.text for prediction in loaded.task.predict(loaded.model, sources, search)]


def recipe_of(typed: list[str]) -> str:
    return dict(word.partition("=")[::2] for word in typed).get("recipe", "transformer_tiny")


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
        {"case": CASE, "system": f"attnbuild {run.recipe}", "metric": metric, "value": value, "unit": unit}
        for run in scored
        for metric, (value, unit) in run.values.items()
    ]
    figures = {"signatures": signatures(), "rows": rows, "runs": [dataclasses.asdict(run) for run in scored]}
    PAGE.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


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
    figure.savefig(PAGE.with_suffix(".png"), dpi=110)


def write_page(scored: list[Scored]) -> None:
    lines = [
        "# Multi30k English-German, test_2016_flickr",
        "",
        "Written by `benchmarks/multi30k.py`. BLEU with beam 5, greedy in brackets. Trained on a CPU, with so many",
        "threads, beside other work.",
        "",
        "| recipe | cased sacreBLEU | lower-cased, tokenised | parameters | updates | training | threads |",
        "|---|---|---|---|---|---|---|",
        *map(table_row, scored),
        *("", "## By source length", "", "Cased BLEU, beam 5, on each third of the test sentences.", ""),
        f"| recipe | {' | '.join(THIRDS)} |",
        "|---|---|---|---|",
        *(f"| {run.recipe} | {' | '.join(f'{value:.1f}' for value in run.by_third)} |" for run in scored),
        *("", "![learning curves, and BLEU by source length](multi30k.png)", "", "## How", ""),
        *(f"- {name}: `{signature}`" for name, signature in signatures().items()),
        *("", "```", *(f"attnbuild train {run.command}" for run in scored), "```", ""),
        *(f"{run.recipe}: {', '.join(map(' '.join, run.versions.items()))}.  " for run in scored),
    ]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def table_row(run: Scored) -> str:
    value = {metric: number for metric, (number, _) in run.values.items()}
    return (
        f"| {run.recipe} | {value['beam5_bleu_cased']:.1f} ({value['greedy_bleu_cased']:.1f}) "
        f"| {value['beam5_bleu_lower_tokenised']:.1f} ({value['greedy_bleu_lower_tokenised']:.1f}) "
        f"| {value['parameters'] / 1e6:.2f} M | {value['updates']:.0f} | {value['wall_time'] / 60:.0f} min "
        f"| {run.threads or 'all'} |"
    )


if __name__ == "__main__":
    try:
        main()
    except attnbuild.AttnbuildError as error:
        sys.exit(str(error))
