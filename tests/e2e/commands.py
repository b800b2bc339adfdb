"""Commands as a user types them: each a process of its own, in a folder of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SMALL", "Outcome", "only_run", "program", "run_command", "start_command", "user_environment"]

#: A model and data so small that a training is mostly the start of the process.
SMALL = (
    *("data.train=300", "data.validation=40", "data.test=40", "tokenizer.vocab_size=400", "batch.tokens=512"),
    *("model.dim=32", "encoder.layers=1", "encoder.feedforward=64", "decoder.layers=1", "decoder.feedforward=64"),
    *("search=greedy", "validation.samples=1", "validation.maps=0", "average=none", "trainer.threads=1"),
)

#: Seconds after which a command hangs, however busy the machine is.
PATIENCE = 600

#: What would make a command here differ from one that is typed in a fresh shell.
_FOREIGN = ("PYTHONPATH", "ATTNBUILD_DATA", "HYDRA_FULL_ERROR")


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str


def program(python: str | Path = sys.executable) -> list[str]:
    """How the command line starts."""
    return [str(python), "-m", "attnbuild"]


def user_environment() -> dict[str, str]:
    """The environment of a user's shell; the cache is that of the tests."""
    return {name: value for name, value in os.environ.items() if name not in _FOREIGN}


def run_command(
    *words: str,
    cwd: Path,
    input: str | None = None,
    environment: dict[str, str] | None = None,
    start: Sequence[str] = (),
) -> Outcome:
    """Type a command and wait for its end.

    Args:
        words: after the program's name.
        cwd: the working directory.
        input: what is typed into it.
        environment: more variables, or others.
        start: the program; the default is that of this interpreter.
    """
    done = subprocess.run(
        [*(start or program()), *words],
        cwd=cwd,
        input=input,
        env=user_environment() | (environment or {}),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def start_command(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Type a command and do not wait; what it says is in ``output.txt`` of the working directory."""
    with (cwd / "output.txt").open("w", encoding="utf-8") as output:
        return subprocess.Popen(
            [*program(), *words], cwd=cwd, env=user_environment(), stdout=output, stderr=output, text=True
        )


def only_run(folder: Path) -> Path:
    """The one run folder under ``outputs`` of a working directory."""
    (run,) = folder.glob("outputs/*/*/*")
    return run
