"""BLEU for the time: a few minutes of training on two cores, from raw text, attnbuild's best recipe against JoeyNMT's.

    python benchmarks/time_to_quality.py train RUNS [SYSTEM ...]   # every candidate that is missing below RUNS
    python benchmarks/time_to_quality.py write RUNS [--best RUN]   # results/time_to_quality.{md,json}

Both sides have the same shapes, rates and batches to choose from, and each is trained for as long. Validation (greedy)
chooses one a side; the test set is decoded once, by the chosen two, with beam 5. ``--best`` adds a finished run of
``experiment=multi30k_best``, trained longer. Needs Multi30k (ATTNBUILD_DATA) and JoeyNMT (see training.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joeynmt_system
from multi30k import cased, lower_tokenised, outputs_of
from runs import Run, command_of, data_root, train

import attnbuild
from attnbuild.measure.record import machine, versions
from attnbuild.training.run import RunFolder

PAGE = Path(__file__).parent / "results" / "time_to_quality.md"
MINUTES, THREADS = 8, 2
OURS, PEER = "attnbuild", "JoeyNMT"
BEST = "multi30k_best"
CASE = f"multi30k en-de, {MINUTES} minutes of {THREADS} cores"

#: Of both sides: smaller than usual, since the output layer is a third of the work of models so small.
TOKENS = 4000
ROPE = ("attention=rope", "encoder.positions=none", "decoder.positions=none")
#: Down to nothing by the last minute: the weights to take are the last, and validation before them takes time.
DECAY = ("scheduler=linear", "scheduler.warmup=200", "validation.every=2000")
COMMON = (f"tokenizer.vocab_size={TOKENS}", *ROPE, *DECAY, "model.dropout=0.1")


@dataclass(frozen=True)
class Candidate:
    """What both sides train.

    Attributes:
        dim: width of the model; four times that in the feed-forward layers.
        lr: peak learning rate.
        tokens: of a batch.
        layers: of the encoder, and of the decoder.
    """

    dim: int
    lr: float
    tokens: int = 2048
    layers: int = 2

    def words(self) -> tuple[str, ...]:
        """What is typed after ``attnbuild train``."""
        sides = ("encoder", "decoder")
        layers = (
            f"{side}.{what}" for side in sides for what in (f"layers={self.layers}", f"feedforward={4 * self.dim}")
        )
        return (*COMMON, f"model.dim={self.dim}", *layers, f"optimizer.lr={self.lr}", f"batch.tokens={self.tokens}")

    def options(self) -> dict[str, Any]:
        """What JoeyNMT's config says."""
        side = {
            **{"hidden_size": self.dim, "ff_size": 4 * self.dim, "num_layers": self.layers, "num_heads": 4},
            **{"dropout": 0.1, "embeddings": {"embedding_dim": self.dim, "scale": True, "dropout": 0.1}},
        }
        # Its checkpoints are of validations: rare ones would lose the last minutes.
        every = 50 * 2048 // self.tokens
        training = {"learning_rate": self.lr, "batch_size": self.tokens, "validation_freq": every}
        return {"model": {"encoder": side, "decoder": side}, "training": training}


CANDIDATES = {
    "2 + 2 layers of 128": Candidate(128, 0.004),
    "2 + 2 layers of 192": Candidate(192, 0.003),
    "2 + 2 layers of 128, small batches": Candidate(128, 0.003, tokens=1024),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "write"])
    parser.add_argument("runs", type=Path)
    parser.add_argument("systems", nargs="*", choices=[[], OURS, PEER], default=[])
    parser.add_argument("--best", type=Path, help="a finished run of experiment=multi30k_best")
    given = parser.parse_args()
    candidates = [one for one in all_candidates(given.runs) if one.system in (given.systems or (OURS, PEER))]
    if given.action == "train":
        for candidate in candidates:
            candidate.complete()
    else:
        write(candidates, given.best)


class Ours:
    """A recipe of attnbuild."""

    system = OURS

    def __init__(self, name: str, folder: Path, words: tuple[str, ...]) -> None:
        self.name = name
        limits = (f"trainer.max_minutes={MINUTES}", "trainer.max_steps=1000000", "callbacks.early_stopping=null")
        self.run = Run(f"{OURS} {name}", folder, ("experiment=multi30k", *words, *limits), THREADS)

    def complete(self) -> None:
        train([self.run], at_once=1)

    @cached_property
    def loaded(self) -> Any:
        (summary,) = self.run.folder.rglob("summary.json")
        return attnbuild.load(summary.parent)

    def outputs(self, split: str, beam: int) -> list[str]:
        section = {"type": "greedy"} if beam == 1 else {"type": "beam", "beam": beam}
        return outputs_of(self.loaded, section, sentences(split, "en"))

    @property
    def told(self) -> str:
        return f"attnbuild train {' '.join(self.run.words)}"


class Peer:
    """A config of JoeyNMT."""

    system = PEER

    def __init__(self, name: str, folder: Path, options: dict[str, Any]) -> None:
        self.name, self.folder, self.options = name, folder, options

    def complete(self) -> None:
        if not self.folder.exists():
            joeynmt_system.train_for(MINUTES, self.folder, data_root() / "multi30k", self.options, THREADS, TOKENS)
            print(f"{PEER} {self.name}: trained", flush=True)

    def outputs(self, split: str, beam: int) -> list[str]:
        split = {"val": "dev", "test_2016_flickr": "test"}[split]
        return joeynmt_system.decode(self.folder, beam, split, THREADS)

    @property
    def told(self) -> str:
        return f"joeynmt train, with {json.dumps(self.options)} in its config (benchmarks/joeynmt_system.py)"


def all_candidates(folder: Path) -> Iterator[Ours | Peer]:
    """The sides in turn, so that a machine's slow hour meets both."""
    for name, candidate in CANDIDATES.items():
        yield Ours(name, folder / OURS / named(name), candidate.words())
        yield Peer(name, folder / PEER / named(name), candidate.options())


def named(name: str) -> str:
    """For a folder."""
    return name.replace(",", "").replace(" ", "_")


def sentences(split: str, language: str) -> list[str]:
    return (data_root() / "multi30k" / f"{split}.{language}").read_text(encoding="utf-8").splitlines()


# The page


def write(candidates: list[Ours | Peer], best: Path | None) -> None:
    path = PAGE.with_suffix(".json")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    validation = record.setdefault("validation", {OURS: {}, PEER: {}})
    for one in candidates:
        if one.name not in validation[one.system]:
            validation[one.system][one.name] = cased(one.outputs("val", 1), sentences("val", "de"))
    for system, scores in validation.items():
        chosen = max(scores, key=scores.get)
        if record.setdefault("test", {}).get(system, {}).get("name") != chosen:
            (one,) = (one for one in candidates if (one.system, one.name) == (system, chosen))
            record["test"][system] = tested(one)
    if best:
        record["best"] = tested_best(RunFolder.open(best))
    record.setdefault("machine", machine())
    record["versions"] = versions(("attnbuild", "torch", "lightning", "joeynmt", "sacrebleu"))
    record["rows"] = list(rows(record))
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(page(record)) + "\n", encoding="utf-8")


def tested(one: Ours | Peer) -> dict[str, Any]:
    outputs = one.outputs("test_2016_flickr", 5)
    return {"name": one.name, "told": one.told, **scores_of(outputs)}


def tested_best(run: RunFolder) -> dict[str, Any]:
    """With the search of its config."""
    loaded, summary = attnbuild.load(run.path), run.read_summary()
    outputs = outputs_of(loaded, loaded.config["search"], sentences("test_2016_flickr", "en"))
    costs = {"minutes": summary["wall_seconds"] / 60, "parameters": summary["parameters"]}
    return {"told": command_of(run), **scores_of(outputs), **costs, "machine": machine()}


def scores_of(outputs: list[str]) -> dict[str, float]:
    references = sentences("test_2016_flickr", "de")
    return {"bleu_cased": cased(outputs, references), "bleu_lower_tokenised": lower_tokenised(outputs, references)}


def rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = {(CASE, system): its for system, its in record["test"].items()}
    if "best" in record:
        found[BEST, OURS] = record["best"]
    for (case, system), its in found.items():
        for metric in ("bleu_cased", "bleu_lower_tokenised"):
            yield {"case": case, "system": system, "metric": metric, "value": its[metric], "unit": "BLEU"}


def page(record: dict[str, Any]) -> Iterator[str]:
    yield f"""# Quality for the time

Written by `benchmarks/time_to_quality.py`: Multi30k English-German, {MINUTES} minutes of updates and validation on
{THREADS} CPU threads, from raw text. The candidate of each side that does best on validation (greedy, cased sacreBLEU)
is tested once, on test_2016_flickr with beam 5.

| system | candidate | cased | lower-cased, tokenised |
|---|---|---|---|"""
    for system, its in record["test"].items():
        yield f"| {system} | {its['name']} | {its['bleu_cased']:.1f} | {its['bleu_lower_tokenised']:.1f} |"
    yield from ("", "| system | candidate | validation |", "|---|---|---|")
    for system, scores in record["validation"].items():
        for name, score in sorted(scores.items(), key=lambda item: -item[1]):
            yield f"| {system} | {name} | {score:.1f} |"
    for its in record["test"].values():
        yield from ("", f"`{its['told']}`")
    if "best" in record:
        its = record["best"]
        yield from ("", "## Without that bound", "")
        yield f"{its['bleu_cased']:.1f} cased, {its['bleu_lower_tokenised']:.1f} lower-cased and tokenised, with"
        yield f"{its['parameters'] / 1e6:.1f} M parameters after {its['minutes']:.0f} minutes: `{its['told']}`"
        yield from ("", f"{its['machine']}")
    yield ""
    yield f"{record['machine']}; {', '.join(map(' '.join, record['versions'].items()))}"


if __name__ == "__main__":
    main()
