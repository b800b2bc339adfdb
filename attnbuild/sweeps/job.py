"""One job as a child process, and what became of it.

``python -m attnbuild.sweeps.job FOLDER [-- COMMAND ...]`` does so from a batch script: COMMAND trains what
lies in the run folder; without one, that is ``python -m attnbuild.training.job FOLDER``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from attnbuild.errors import INTERRUPTED, AttnbuildError, ConfigError, OutOfMemory
from attnbuild.sweeps.status import Status, now
from attnbuild.training.run import RunFolder

__all__ = ["OUTPUT", "main", "run_job", "settle", "start", "started", "training_command"]

#: What a job prints, in its run folder.
OUTPUT = "output.txt"

#: A shell adds this to the number of the signal that ended a command.
_BY_SIGNAL = 128


def training_command(folder: Path) -> list[str]:
    """What trains a run folder in one process, or in ranks that this process starts."""
    return [sys.executable, "-m", "attnbuild.training.job", str(folder)]


def start(
    folder: Path, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a job's command; what it prints is added to ``output.txt`` of its folder."""
    with (folder / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for who started the sweep, who then ends the jobs in order
        )
    started(folder, process.pid)
    return process


def started(folder: Path, pid: int) -> None:
    """Note that an attempt begins."""
    status = Status.read(folder) or Status()
    status.status, status.reason, status.ended = "running", None, None
    status.attempts += 1
    status.started = now()
    status.process = {**status.process, "host": socket.gethostname(), "pid": pid}
    status.write(folder)


def settle(folder: Path, code: int, seconds: float) -> Status:
    """Note how an attempt ended.

    Args:
        folder: the run folder.
        code: its exit code; below 0 or above 128 it was ended by a signal.
        seconds: how long it took.
    """
    status = Status.read(folder) or Status()
    summary = RunFolder(folder).read_summary()
    status.status, status.reason = _outcome(folder, code, summary)
    status.ended = now()
    status.seconds = round(status.seconds + seconds, 2)
    status.figures = figures(summary)
    status.write(folder)
    return status


def figures(summary: Mapping[str, object]) -> dict[str, object]:
    """What a sweep compares of a run's summary."""
    metrics = summary.get("metrics")
    found = {name: summary[name] for name in ("monitor", "score", "parameters", "wall_seconds") if name in summary}
    found |= {name: value for name, value in summary.items() if name.endswith(("_per_second", "_memory_mb"))}
    return found | (dict(metrics) if isinstance(metrics, dict) else {})


def _outcome(folder: Path, code: int, summary: Mapping[str, object]) -> tuple[str, str | None]:
    number = -code if code < 0 else code - _BY_SIGNAL
    if code == 0 and summary.get("status") == "ok":
        return "ok", None
    if code == OutOfMemory.exit_code:
        return "oom", _said(folder, summary)
    if code == INTERRUPTED or number == signal.SIGTERM:
        return "interrupted", "it was asked to stop; running the same command again goes on from its last checkpoint"
    if number > 0:
        name = signal.Signals(number).name if number in {*signal.Signals} else str(number)
        more = "; perhaps the system ran out of memory" if number == signal.SIGKILL else ""
        return "killed", f"ended by signal {name}{more}"
    if code == 0:
        return "failed", "it ended without a result"
    return "failed", _said(folder, summary)


def _said(folder: Path, summary: Mapping[str, object]) -> str:
    """What the run left as its error, or the last that it printed."""
    error = summary.get("error")
    if summary.get("status") in ("failed", "oom") and isinstance(error, str):
        return error
    try:
        lines = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def run_job(folder: Path, command: Sequence[str]) -> int:
    """Run a job's command to its end and settle its status; SIGTERM and SIGINT are handed on.

    Returns:
        The exit code, as a shell gives it.
    """
    began = time.monotonic()
    process = start(folder, command)

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    settle(folder, code, time.monotonic() - began)
    return code if code >= 0 else _BY_SIGNAL - code


def main(words: Sequence[str]) -> int:
    """The program; see the head of this file."""
    try:
        if not words or (len(words) > 1 and words[1] != "--"):
            raise ConfigError("usage: python -m attnbuild.sweeps.job FOLDER [-- COMMAND ...]")
        folder = RunFolder.open(words[0]).path
        return run_job(folder, list(words[2:]) or training_command(folder))
    except AttnbuildError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
