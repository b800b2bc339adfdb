"""Sentences per second of searches, attnbuild's and its peers' with the same weights: results/generation.{md,json}.

    attnbuild train experiment=multi30k recipe=transformer encoder.norm=post decoder.norm=post \\
        encoder.feedforward=1024 decoder.feedforward=1024
    python benchmarks/generation.py RUN [RUN ...] [--rounds 5] [--sentences 1000]

Needs Multi30k (ATTNBUILD_DATA) and trained runs on it; a run that MarianMT or CTranslate2 cannot express races
against those that can. All get the same token ids and put sentences of about one length together; reading and writing
text is left out for all. They take turns, round after round; the figure is the median, beside BLEU of what each wrote.

JoeyNMT asks for packages that no longer go together, and forgets one that it needs; what it uses here comes by
``pip install --no-deps joeynmt==2.3.0 "importlib_metadata<8" zipp sentencepiece subword-nmt``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sacrebleu
from generation_long import DECODERS, growth
from generation_peers import OURS, PEERS, SLOW, Entrant, Ours, Tokens
from racing import ask, start
from runs import command_of

from attnbuild.measure.record import machine, versions
from attnbuild.training.checkpoint import load
from attnbuild.training.run import RunFolder

PAGE = Path(__file__).parent / "results" / "generation.md"
#: (beam, sentences at a time); few sentences are enough where they go one by one.
SEARCHES = ((1, 64), (5, 64), (1, 1), (5, 1))
#: Share of the sentences that are searched for one by one, and of those that the slow are given.
_ALONE = 0.1


@dataclass
class Result:
    """Of one entrant in one search.

    Attributes:
        speeds: sentences per second, by round.
        bleu: of its outputs, cased, in percent.
        same: share of its outputs that are attnbuild's.
    """

    speeds: list[float]
    bleu: float
    same: float

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    results: dict[str, dict[str, Result]] = {}
    left_out: dict[str, str] = {}
    trained = [trained_as(RunFolder.open(run)) for run in options.runs]
    for run in options.runs:
        with tempfile.TemporaryDirectory() as folder:
            race(run, options.rounds, options.sentences, Path(folder), results, left_out)
    remembered = {attention: growth(attention, lengths) for attention, lengths in DECODERS.items()}
    record = {
        "rows": [*rows(results), *rows_of_long(remembered)],
        "speeds": {case: {name: result.speeds for name, result in found.items()} for case, found in results.items()},
        "left_out": left_out,
        "trained": trained,
        "sentences": options.sentences,
        "rounds": options.rounds,
        "machine": machine(),
        "versions": versions(("attnbuild", "torch", "transformers", "joeynmt", "ctranslate2", "sacrebleu")),
    }
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    lines = [*page(results, record), *page_of_long(remembered), *circumstances(record), ""]
    options.page.write_text("\n".join(lines), encoding="utf-8")


def race(
    run: Path, rounds: int, count: int, folder: Path, results: dict[str, dict[str, Result]], left_out: dict[str, str]
) -> None:
    """All searches of one run by all that can express it."""
    loaded = load(run)
    task: Any = loaded.task
    name = "rnn" if loaded.config["decoder"]["type"] == "rnn" else "transformer"
    sources, references = test_sentences(task, count)
    entrants: dict[str, Connection] = {}
    for entrant in (Ours, *PEERS):
        line = start(serve, entrant, run, folder)
        problem = line.recv()
        if problem:
            left_out[f"{entrant.name}, {name}"] = problem
        else:
            entrants[entrant.name] = line
    for beam, together in SEARCHES:
        some = sources if together > 1 else few(sources)
        of = "" if name == "transformer" else f"_{name}"
        case = f"{'greedy' if beam == 1 else f'beam{beam}'}_batch{together}{of}"
        outputs, speeds = one_search(entrants, some, beam, together, rounds)
        results[case] = {
            name: scored(tokens, outputs[OURS], references[: len(some)], speeds[name], task)
            for name, tokens in outputs.items()
        }
        told = ", ".join(f"{entrant} {result.speed:.1f}" for entrant, result in results[case].items())
        print(f"{case}: {told}", flush=True)
    for line in entrants.values():
        line.send(None)


def serve(entrant: type[Entrant], run: Path, folder: Path, line: Connection) -> None:
    """An entrant: say what stands in the way of it, or nothing; then search whenever told to."""
    try:
        racer = entrant(load(run), folder)
    except Exception as error:  # a peer may refuse a model in any way
        line.send(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
        return
    line.send("")
    while (told := line.recv()) is not None:
        began = time.perf_counter()
        outputs = racer.search(*told)
        line.send((time.perf_counter() - began, outputs))


def one_search(
    entrants: Mapping[str, Connection], sources: Sequence[Tokens], beam: int, together: int, rounds: int
) -> tuple[dict[str, list[Tokens]], dict[str, list[float]]]:
    """Outputs and sentences per second of all, who take turns; the first turn of each warms up, but for the slow."""
    outputs: dict[str, list[Tokens]] = {}
    speeds: dict[str, list[float]] = {name: [] for name in entrants}
    for number in range(rounds + 1):
        for name, line in entrants.items():
            if name in SLOW and number:
                continue
            some = few(sources) if name in SLOW else sources
            seconds, outputs[name] = ask(line, some, beam, together)
            if number or name in SLOW:
                speeds[name].append(len(some) / seconds)
    return outputs, speeds


def few(sources: Sequence[Tokens]) -> Sequence[Tokens]:
    return sources[: max(1, int(_ALONE * len(sources)))]


def scored(
    tokens: list[Tokens], ours: list[Tokens], references: Sequence[str], speeds: list[float], task: Any
) -> Result:
    ours, references = ours[: len(tokens)], references[: len(tokens)]
    bleu = sacrebleu.corpus_bleu(task.target_side.vocabulary.decode(tokens), [list(references)]).score
    same = sum(one == other for one, other in zip(tokens, ours, strict=True)) / len(tokens)
    return Result(speeds, bleu, same)


def test_sentences(task: Any, count: int) -> tuple[list[Tokens], list[str]]:
    """Token ids of the first test sentences, and their references."""
    task.prepare(("test",))
    corpus = task.corpora["test"]
    indices = list(range(min(count, len(corpus))))
    return [row.tolist() for row in corpus.rows(indices)[0]], list(corpus.texts(indices)[1])


def trained_as(run: RunFolder) -> str:
    """How a run came about."""
    return f"{run.read_summary()['wall_seconds'] / 60:.0f} minutes of `{command_of(run)}`"


def rows(results: dict[str, dict[str, Result]]) -> list[dict[str, Any]]:
    """Speeds of all, and how many times as fast as each peer we are."""
    found = []
    for case, by_name in results.items():
        for name, result in by_name.items():
            row = {"case": case, "system": name}
            found.append({**row, "metric": "sentences_per_second", "value": result.speed})
            found.append({**row, "metric": "bleu", "value": result.bleu})
        ours = by_name[OURS].speed
        for name, metric in (("transformers generate", "transformers"), ("ctranslate2 fp32", "ctranslate2_fp32")):
            if name in by_name:
                ratio = {"metric": f"ratio_to_{metric}", "value": ours / by_name[name].speed}
                found.append({"case": case, "system": OURS, **ratio})
    return found


def rows_of_long(remembered: dict[str, dict[int, tuple[int, int]]]) -> list[dict[str, Any]]:
    return [
        {"case": f"long_{attention}_{length}", "system": OURS, "metric": metric, "value": value / 2**20, "unit": "MB"}
        for attention, by_length in remembered.items()
        for length, both in by_length.items()
        for metric, value in zip(("state", "step"), both, strict=True)
    ]


def page(results: dict[str, dict[str, Result]], record: dict[str, Any]) -> list[str]:
    lines = [
        "# Generation",
        "",
        "Written by `benchmarks/generation.py`: sentences per second, the median of "
        f"{record['rounds']} rounds in which all take turns",
        "(lowest to highest in brackets), on the first "
        f"{record['sentences']} sentences of test_2016_flickr; a tenth of them",
        "where they go one by one. JoeyNMT has one turn, on a tenth of what the others have, as it decodes every",
        "prefix anew. All have the same weights, each in a process of its own.",
        "",
        "| search | system | sentences/s | attnbuild is | BLEU | same outputs |",
        "|---|---|---|---|---|---|",
    ]
    for case, found in results.items():
        ours = found[OURS].speed
        for name, result in found.items():
            ratio = "" if name == OURS else f"{ours / result.speed:.2f} times as fast"
            bleu = "" if name in SLOW else f"{result.bleu:.1f}"  # of too few sentences to stand beside the others
            spread = f"{result.speed:.1f} ({min(result.speeds):.1f} to {max(result.speeds):.1f})"
            lines.append(f"| {case} | {name} | {spread} | {ratio} | {bleu} | {result.same:.0%} |")
    left_out = [f"- left out: {what}: {why}" for what, why in record["left_out"].items()]
    return [*lines, "", *left_out, *(f"- weights: {how}" for how in record["trained"])]


def page_of_long(remembered: dict[str, dict[int, tuple[int, int]]]) -> list[str]:
    lines = [
        "",
        "## Long outputs",
        "",
        "What a Transformer's decoder (dim 256, 3 layers, 4 heads, window 128) remembers after so many tokens, and",
        "what its next step takes at most beyond that.",
        "",
        "| self-attention | tokens | state, MB | step, MB |",
        "|---|---|---|---|",
    ]
    for attention, by_length in remembered.items():
        for length, (state, step) in by_length.items():
            lines.append(f"| {attention} | {length} | {state / 2**20:.2f} | {step / 2**20:.2f} |")
    return lines


def circumstances(record: dict[str, Any]) -> list[str]:
    return ["", f"{record['machine']}; {', '.join(f'{name} {number}' for name, number in record['versions'].items())}"]


if __name__ == "__main__":
    main()
