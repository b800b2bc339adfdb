"""Commands as a user types them: each a process of its own, in a folder of the test's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.warm import Command

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
        start: a program to start; the default is a fork of this interpreter.
    """
    variables = user_environment() | (environment or {})
    if not start:
        return _run_warm(words, cwd, variables, input)
    done = subprocess.run(
        [*start, *words],
        cwd=cwd,
        input=input,
        env=variables,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def _run_warm(words: Sequence[str], cwd: Path, environment: dict[str, str], input: str | None) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        typed, out, err = (Path(folder) / name for name in ("in", "out", "err"))
        typed.write_text(input or "", encoding="utf-8")
        code = Command(words, cwd, environment, typed, out, err).wait(PATIENCE)
        return Outcome(code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def start_command(*words: str, cwd: Path) -> Command:
    """Type a command and do not wait; what it says is in ``output.txt`` of the working directory."""
    output = cwd / "output.txt"
    return Command(words, cwd, user_environment(), Path(os.devnull), output, output)


def only_run(folder: Path) -> Path:
    """The one run folder under ``outputs`` of a working directory."""
    (run,) = folder.glob("outputs/*/*/*")
    return run
