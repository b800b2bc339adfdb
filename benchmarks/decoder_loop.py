"""What attention adds to a recurrent decoder's loop over time: results/decoder_loop.{md,json}.

    python benchmarks/decoder_loop.py [--threads 1] [--repeats 25]

Forward and backward of the decoder alone, without the matrix over the vocabulary: the loop that a sentence's words
run through one by one. The same cell and wiring without attention reads one summary of the source at every step.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from runs import model_of

from attnbuild.measure.race import Race
from attnbuild.measure.record import machine, versions
from attnbuild.memory import Memory
from attnbuild.training.freed_memory import keep_freed_memory

PAGE = Path(__file__).parent / "results" / "decoder_loop.md"
ATTENTIONS = ("none", "luong_dot", "luong_general", "luong_concat", "bahdanau", "multihead")
DIM, BATCH, SMALL_VOCABULARY = 256, 64, 32
LENGTHS = (14, 28)
ASKED = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as every training does
    race = Race({name: partial(loop, name) for name in ATTENTIONS}, repeats=given.repeats)
    seconds = {key: figures.seconds for key, figures in race.run(LENGTHS).items()}
    rows = [row_of(name, length, seconds) for length in LENGTHS for name in ATTENTIONS]
    record = {"rows": rows, "machine": machine(), "versions": versions(("attnbuild", "torch"))}
    PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(seconds, record, given.threads), encoding="utf-8")


def loop(attention: str, length: int) -> Callable[[], Any]:
    """Forward and backward over sentences and outputs of so many words."""
    words = (f"model.dim={DIM}", "encoder=rnn", "decoder=rnn", f"attention={attention}")
    decoder = model_of(words, SMALL_VOCABULARY).generator.train()
    target = torch.randint(4, SMALL_VOCABULARY, (BATCH, length))
    states, summary = (torch.randn(BATCH, *shape, requires_grad=True) for shape in ((length, DIM), (DIM,)))

    def call() -> None:
        decoder(target, Memory(states, None, summary)).logits.sum().backward()

    return call


def row_of(name: str, length: int, seconds: dict[tuple[str, int], float]) -> dict[str, Any]:
    ratio = seconds[name, length] / seconds["none", length]
    case = f"loop of {length} words, {BATCH} sentences"
    return {"case": case, "system": name, "metric": "ratio_to_no_attention", "value": ratio, "unit": "ratio"}


def page(seconds: dict[tuple[str, int], float], record: dict[str, Any], threads: int) -> str:
    lines = [
        "# The loop of a recurrent decoder",
        "",
        "Written by `benchmarks/decoder_loop.py`: forward and backward of an LSTM decoder in Luong's wiring with",
        f"input feeding, dim {DIM}, {BATCH} sentences, {threads} CPU thread(s), medians of turns; how much longer than",
        f"the same cell without attention it takes (asked: at most {ASKED} times).",
        "",
        "| attention | " + " | ".join(f"{length} words, ms | times" for length in LENGTHS) + " |",
        "|---" * (1 + 2 * len(LENGTHS)) + "|",
    ]
    for name in ATTENTIONS:
        cells = [f"{1e3 * seconds[name, at]:.0f} | {seconds[name, at] / seconds['none', at]:.2f}" for at in LENGTHS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    told = ", ".join(map(" ".join, record["versions"].items()))
    return "\n".join([*lines, "", f"{record['machine']}; {told}"]) + "\n"


if __name__ == "__main__":
    main()
