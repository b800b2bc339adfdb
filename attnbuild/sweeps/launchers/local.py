"""Jobs on this machine, some side by side."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from attnbuild.errors import Problem
from attnbuild.registry import register
from attnbuild.sweeps.job import settle, start, training_command
from attnbuild.sweeps.launchers.base import Job, LauncherPlace
from attnbuild.training.distributed import process_count
from attnbuild.training.job import TIED
from attnbuild.training.lock import is_held
from attnbuild.training.run import RunFolder

__all__ = ["Local"]

#: Seconds that a job has to save its state after it was asked to end.
_PATIENCE = 60.0


@dataclass
class _Started:
    """A job under way.

    Attributes:
        process: its process.
        began: when, by the monotonic clock.
        gpus: which GPUs it alone may use.
        cancelled: when it was asked to end.
    """

    process: subprocess.Popen[bytes]
    began: float
    gpus: tuple[str, ...]
    cancelled: float | None = None


@register("launcher", "local")
class Local:
    """Jobs on this machine, each a process of its own.

    A job that needs GPUs gets them for itself: it sees no others, and waits until enough are free.

    Args:
        jobs: how many run side by side; auto: as many as there are GPUs for, and one on the CPU.
        dry_run: print what would be started, and start nothing.
    """

    waits = True
    detaches = False

    def __init__(
        self, place: LauncherPlace, *, jobs: Annotated[int, Ge(1)] | Literal["auto"] = "auto", dry_run: bool = False
    ) -> None:
        self.jobs = jobs
        self.dry_run = dry_run
        self._under_way: dict[Path, _Started] = {}

    def check(self, job: Job) -> list[Problem]:
        """A machine with too few GPUs, or several machines."""
        trainer = job.config["trainer"]
        if trainer.get("num_nodes", 1) > 1:
            message = f"{trainer['num_nodes']} machines need launcher=slurm, or torchrun on each of them"
            return [Problem("trainer.num_nodes", message)]
        needed = self._gpus_needed(job)
        if needed > len(self._gpus):
            return [Problem("trainer.devices", f"{needed} GPUs are needed and this machine has {len(self._gpus)}")]
        return []

    def describe(self, job: Job) -> str:
        """The command of its process."""
        return shlex.join(training_command(job.folder))

    def room(self) -> bool:
        """Whether fewer run than may."""
        return len(self._under_way) < (self.jobs if isinstance(self.jobs, int) else max(1, len(self._gpus)))

    def ready(self, job: Job) -> bool:
        """Whether there is room for one more, GPUs for it, and nobody left in its folder who is about to end."""
        needed = self._gpus_needed(job)
        most = self.jobs if isinstance(self.jobs, int) else (len(self._gpus) if needed else 1)
        room = len(self._under_way) < most and needed <= len(self._free)
        return room and not is_held(RunFolder(job.folder))

    def start(self, job: Job) -> None:
        """Start it in a session of its own."""
        gpus = tuple(self._free[: self._gpus_needed(job)])
        environment = {TIED: "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self._threads))}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        process = start(job.folder, training_command(job.folder), environment)
        self._under_way[job.folder] = _Started(process, time.monotonic(), gpus)

    def adopt(self, job: Job) -> bool:
        """Never: what ran before has ended with who started it."""
        return False

    def poll(self, job: Job) -> bool:
        """Settle it when its process has ended; insist where it was asked to and does not."""
        started = self._under_way[job.folder]
        code = started.process.poll()
        if code is None:
            if started.cancelled is not None and time.monotonic() - started.cancelled > _PATIENCE:
                started.process.kill()
            return False
        del self._under_way[job.folder]
        settle(job.folder, code, time.monotonic() - started.began)
        return True

    def cancel(self, job: Job) -> None:
        """Ask its process to save and to end."""
        started = self._under_way[job.folder]
        if started.cancelled is None:
            started.cancelled = time.monotonic()
            started.process.send_signal(signal.SIGTERM)

    @property
    def _threads(self) -> int:
        """CPU threads for each job: together no more than there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        side_by_side = self.jobs if isinstance(self.jobs, int) else max(1, len(self._gpus))
        return max(1, cores // side_by_side)

    @property
    def _free(self) -> list[str]:
        taken = {gpu for started in self._under_way.values() for gpu in started.gpus}
        return [gpu for gpu in self._gpus if gpu not in taken]

    @cached_property
    def _gpus(self) -> list[str]:
        """The GPUs of this machine, those alone that the user lets us see."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
        import torch

        return [str(number) for number in range(torch.cuda.device_count())]

    def _gpus_needed(self, job: Job) -> int:
        """How many GPUs a job takes; those that ask for any GPU where there is none will say so themselves."""
        trainer = job.config["trainer"]
        if trainer["accelerator"] in ("cpu", "mps") or (trainer["accelerator"] == "auto" and not self._gpus):
            return 0
        return process_count(trainer)
