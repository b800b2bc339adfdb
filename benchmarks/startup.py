"""Seconds from a typed command to its first update, beside what importing torch and lightning takes: results/startup.*

    python benchmarks/startup.py [--rounds 7]      # results/startup.{md,json}

The commands train on embedded data whose vocabulary is cached. Each is a process of its own that ends after one
update; all take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from attnbuild.measure.record import machine, versions
from attnbuild.registry import register

PAGE = Path(__file__).parent / "results" / "startup.md"
IMPORTS = "import torch, lightning"
ASKED = 2.0
#: What is typed, by how the page calls it.
TYPED = {
    "transformer": ("attnbuild", "train"),
    "rnn": ("attnbuild", "train", "encoder=rnn", "decoder=rnn", "attention=luong_general"),
    "cnn": ("attnbuild", "train", "task=classification"),
}


@register("callback", "one_update")
class OneUpdate(Callback):
    """Ends the process after its first update; this file is the plugin that brings it."""

    def __init__(self, place: Any) -> None:
        super().__init__()

    def on_train_batch_end(self, *given: Any) -> None:
        os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    commands = {"imports": [sys.executable, "-c", IMPORTS]}
    for name, words in TYPED.items():
        commands[name] = [sys.executable, "-m", *words, f"plugins=[{Path(__file__).stem}]", "callbacks.one_update={}"]
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(given.rounds + 1):
            for name, command in commands.items():
                taken = seconds_of(command, folder)
                if turn:  # the first fills the caches of vocabularies and files
                    seconds[name].append(taken)
    record = {
        "rows": rows(seconds),
        "seconds": seconds,
        "machine": machine(),
        "versions": versions(("attnbuild", "torch", "lightning", "hydra-core")),
    }
    given.page.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    given.page.write_text(page(seconds, record), encoding="utf-8")


def seconds_of(command: list[str], folder: str) -> float:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    began = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def beyond(seconds: dict[str, list[float]], name: str) -> float:
    """Seconds above the imports, by medians."""
    return statistics.median(seconds[name]) - statistics.median(seconds["imports"])


def rows(seconds: dict[str, list[float]]) -> list[dict[str, Any]]:
    """case, system, metric, value, unit."""
    return [
        {
            "case": name,
            "system": "attnbuild",
            "metric": "seconds_above_imports",
            "value": beyond(seconds, name),
            "unit": "s",
        }
        for name in TYPED
    ]


def page(seconds: dict[str, list[float]], record: dict[str, Any]) -> str:
    lines = [
        "# Start-up",
        "",
        "Written by `benchmarks/startup.py`: seconds from the start of the process to the end of the first update,",
        f"with a cached vocabulary; medians of {len(seconds['imports'])} rounds in which all take turns (lowest to",
        f"highest in brackets). Asked: at most {ASKED:g} seconds above the imports.",
        "",
        "| | seconds | above the imports |",
        "|---|---|---|",
        f"| `python -c '{IMPORTS}'` | {_told(seconds['imports'])} | |",
        *(f"| `{' '.join(TYPED[name])}` | {_told(seconds[name])} | {beyond(seconds, name):.2f} |" for name in TYPED),
        "",
        f"{record['machine']}; {', '.join(map(' '.join, record['versions'].items()))}",
    ]
    return "\n".join(lines) + "\n"


def _told(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
