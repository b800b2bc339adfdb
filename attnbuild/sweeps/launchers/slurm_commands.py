"""What is asked of SLURM, by its own commands."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attnbuild.errors import AttnbuildError

__all__ = ["available", "cancel", "ended_as", "listed", "stop", "submit"]

#: Seconds that SLURM may take to answer; a busy controller takes a while.
_PATIENCE = 120

#: What this process is within SLURM, or within a training, is not what the job is.
_NOT_THE_JOBS = ("SLURM_", "PMI_", "PMIX_", "TORCHELASTIC_", "ATTNBUILD_RANK_", "ATTNBUILD_TIED_TO_PARENT")

#: Where SLURM's own commands find their cluster.
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


def available() -> bool:
    """Whether jobs can be submitted from here."""
    return shutil.which("sbatch") is not None


def submit(script: Path) -> int:
    """Submit a batch script; the number of its job.

    Raises:
        AttnbuildError: SLURM refuses it, or cannot be reached.
    """
    answer = _ask(["sbatch", "--parsable", str(script)])
    return int(answer.partition(";")[0])  # a name of the cluster may follow


def listed() -> dict[int, str]:
    """The user's jobs that wait or run, also those that end just now: number -> state, as PENDING.

    Raises:
        AttnbuildError: SLURM cannot be reached.
    """
    lines = _ask(["squeue", "--me", "--noheader", "--format=%A %T"]).splitlines()
    return {int(number): state for number, state in (line.split() for line in lines)}


def ended_as(number: int) -> str:
    """How a job ended: COMPLETED, FAILED, CANCELLED, TIMEOUT, ...; empty when SLURM has forgotten it."""
    try:
        answer = _ask(["scontrol", "--oneliner", "show", "job", str(number)])
    except AttnbuildError:
        return ""
    return next((word.partition("=")[2] for word in answer.split() if word.startswith("JobState=")), "")


def stop(number: int) -> None:
    """Ask a job to save and to end; one that waits is taken off the queue.

    Raises:
        AttnbuildError: SLURM cannot be reached.
    """
    cancel(number, "--state=PENDING")
    cancel(number, "--batch", "--signal=TERM")


def cancel(number: int, *words: str) -> None:
    """End a job.

    Raises:
        AttnbuildError: SLURM cannot be reached.
    """
    _ask(["scancel", "--quiet", *words, str(number)])


def _ask(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, env=_environment(), capture_output=True, encoding="utf-8", errors="replace", timeout=_PATIENCE
        )
    except FileNotFoundError:
        message = f"{command[0]} is not on this machine; type the command on a login node of the cluster"
        raise AttnbuildError(message) from None
    except subprocess.TimeoutExpired:
        raise AttnbuildError(f"{command[0]} does not answer (for {_PATIENCE} seconds); is the cluster up?") from None
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise AttnbuildError(f"{' '.join(command)}: {said}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """The variables that a job inherits: without those that would make it take itself for part of something else."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_NOT_THE_JOBS)}
