"""Trainings that a benchmark is made of: those that are missing are run, some at a time, each on its own threads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnbuild.training.run import RunFolder

__all__ = ["Run", "command_of", "config_of", "data_root", "mean_of", "model_of", "spread_of", "train"]


@dataclass(frozen=True)
class Run:
    """One training in a folder of its own.

    Attributes:
        name: for the log.
        folder: what the run folder lies in.
        words: what is typed after ``attnbuild train``.
        threads: of the CPU.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    threads: int = 1

    def summary(self) -> dict[str, Any] | None:
        """Of the finished run; None where there is none."""
        for path in self.folder.rglob("summary.json"):
            summary = json.loads(path.read_text(encoding="utf-8"))
            if summary["status"] == "ok":
                return summary
        return None

    def complete(self) -> None:
        """Train unless that is done; what a broken attempt left goes."""
        if self.summary():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        words = [*self.words, f"trainer.threads={self.threads}", f"paths.outputs={self.folder}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with (self.folder / "typed.log").open("w", encoding="utf-8") as log:
            command = [sys.executable, "-m", "attnbuild", "train", *words]
            code = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            ).returncode
        summary = self.summary()
        metrics = {
            name: round(value, 4) for name, value in (summary or {}).get("metrics", {}).items() if "test/" in name
        }
        print(f"{self.name}: {metrics if summary else f'failed with exit code {code}'}", flush=True)


def train(runs: Iterable[Run], at_once: int) -> None:
    """Complete runs, so many at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(Run.complete, runs))


def config_of(words: Sequence[str]) -> dict[str, Any]:
    """The resolved config of the words after ``attnbuild train``."""
    from attnbuild.cli.compose import compose, open_loader, resolve
    from attnbuild.cli.names import check_names

    with open_loader() as loader:
        composed = compose(loader, check_names(loader, list(words)))
        return resolve(composed, composed.hydra.runtime.choices)


def model_of(words: Sequence[str], vocabulary: int) -> Any:
    """The model of these words, fresh, from texts to texts with so many tokens on both sides."""
    import torch

    from attnbuild.inputs import Ends, TextInput
    from attnbuild.model import build_model

    torch.manual_seed(1)
    return build_model(config_of(words), Ends(TextInput(vocabulary, 0), vocabulary, "text", True))


def command_of(run: RunFolder) -> str:
    """What was typed for it, but for where its folder was to lie."""
    return " ".join(["attnbuild train", *(word for word in run.read_overrides() if not word.startswith("paths."))])


def data_root() -> Path:
    """The folder of the real data sets: ``$ATTNBUILD_DATA``."""
    root = os.environ.get("ATTNBUILD_DATA")
    if not root:
        raise SystemExit("set ATTNBUILD_DATA to the folder of the data sets")
    return Path(root)


def mean_of(seeds: dict[str, Any], metric: str) -> float:
    """Over the seeds of a variant."""
    return mean(run[metric] for run in seeds.values())


def spread_of(seeds: dict[str, Any], metric: str) -> float:
    """Half of the difference between the best and the worst seed."""
    values = [run[metric] for run in seeds.values()]
    return (max(values) - min(values)) / 2
