"""Jobs on a SLURM cluster.

``python -m attnbuild.sweeps.launchers.slurm FOLDER`` notes that a job is about to go back to the queue.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from attnbuild.errors import AttnbuildError, Problem
from attnbuild.registry import register
from attnbuild.sweeps.job import OUTPUT
from attnbuild.sweeps.launchers import slurm_commands
from attnbuild.sweeps.launchers.base import Job, LauncherPlace
from attnbuild.sweeps.launchers.slurm_script import batch_script
from attnbuild.sweeps.status import UNDER_WAY, Status, now
from attnbuild.training.run import RunFolder

__all__ = ["NUMBER", "SCRIPT", "Slurm", "back_in_queue"]

_log = logging.getLogger(__name__)

#: In the run folder: the batch script, and which job SLURM made of it.
SCRIPT, NUMBER = "slurm.sh", "slurm.json"

#: Seconds from one look at SLURM's queue to the next: one for all jobs, since it is one controller for all users.
_LOOK_EVERY = 5.0

#: Seconds until a shared disk must show here what a job wrote at its end.
_SEEN_WITHIN = 30.0

#: Seconds that a job has to save its state after it was asked to end.
_SAVES_WITHIN = 120.0

#: What comes from the trainer, or is attnbuild's own: words for sbatch -> what to set instead.
_OWN_WORDS = {
    **dict.fromkeys(("--nodes", "-N"), "trainer.num_nodes"),
    **dict.fromkeys(("--ntasks", "-n", "--ntasks-per-node", "--tasks-per-node"), "trainer.devices"),
    **dict.fromkeys(("--gpus", "-G", "--gpus-per-node", "--gpus-per-task"), "launcher.gpus_per_node"),
    **dict.fromkeys(("--partition", "-p"), "launcher.partition"),
    **dict.fromkeys(("--account", "-A"), "launcher.account"),
    **dict.fromkeys(("--qos", "-q"), "launcher.qos"),
    **dict.fromkeys(("--time", "-t"), "launcher.time"),
    **dict.fromkeys(("--cpus-per-task", "-c"), "launcher.cpus_per_task"),
    **dict.fromkeys(("--constraint", "-C"), "launcher.constraint"),
    **dict.fromkeys(("--requeue", "--no-requeue"), "launcher.requeue"),
    "--mem": "launcher.mem",
    "--signal": "launcher.signal_seconds",
    **dict.fromkeys(("--array", "-a", "--output", "-o", "--error", "-e", "--open-mode", "--job-name", "-J"), ""),
}

#: States of SLURM that say more than what the job left.
_TOLD = {"OUT_OF_MEMORY": "oom", "CANCELLED": "interrupted"}

#: States in which a job has left word of its end, though perhaps not yet where it is seen from here.
_LEAVES_WORD = ("COMPLETED", "FAILED", "COMPLETING")


@dataclass
class _Submitted:
    """A job that SLURM has.

    Attributes:
        number: what SLURM calls it.
        gone: when it was first seen that SLURM has it no more, by the monotonic clock.
        asked: when it was asked to end; None: it was not.
        insisted: whether it was ended, since it did not by itself.
    """

    number: int
    gone: float | None = None
    asked: float | None = None
    insisted: bool = False


@register("launcher", "slurm")
class Slurm:
    """Jobs on a SLURM cluster, each with machines of its own.

    Machines, processes and GPUs follow from trainer.num_nodes, trainer.devices and trainer.accelerator. A job
    whose time ends, or that must make room, saves its state, goes back to the queue and goes on later.

    Args:
        partition: where to queue; null is the cluster's default.
        account: who pays.
        qos: quality of service.
        time: the most that a job may take at a time, as "24:00:00"; null is the partition's limit.
        mem: memory of each machine, as "64G".
        cpus_per_task: CPU cores of each process.
        gpus_per_node: GPUs of each machine, as 4 or "a100:4"; null: as many as trainer.devices.
        constraint: features that machines must have.
        setup: shell lines before the training, as "module load cuda".
        extra: further words for sbatch, as "--mail-type=END".
        jobs: how many are with SLURM at a time; null: all, and SLURM decides.
        requeue: whether a job that must end early goes back to the queue.
        signal_seconds: how long before the end of its time a job is told to save.
        wait: whether a sweep stays until its jobs have ended; Ctrl-C leaves them alone.
        dry_run: print the batch scripts and submit nothing.
    """

    detaches = True

    def __init__(
        self,
        place: LauncherPlace,
        *,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: str | None = None,
        mem: str | None = None,
        cpus_per_task: Annotated[int, Ge(1)] | None = None,
        gpus_per_node: Annotated[int, Ge(0)] | str | None = None,
        constraint: str | None = None,
        setup: list[str] | None = None,
        extra: list[str] | None = None,
        jobs: Annotated[int, Ge(1)] | None = None,
        requeue: bool = True,
        signal_seconds: Annotated[int, Ge(1)] = 120,
        wait: bool = True,
        dry_run: bool = False,
    ) -> None:
        self.place = place
        self.gpus_per_node = gpus_per_node
        self.cpus_per_task = cpus_per_task
        self.setup, self.extra = setup or [], extra or []
        self.jobs, self.requeue, self.waits, self.dry_run = jobs, requeue, wait, dry_run
        self._asked_for = {
            "partition": partition,
            "account": account,
            "qos": qos,
            "time": time,
            "mem": mem,
            "cpus-per-task": cpus_per_task,
            "constraint": constraint,
            "signal": f"B:USR1@{signal_seconds}",
        }
        self._under_way: dict[Path, _Submitted] = {}
        self._queue: dict[int, str] | None = None
        self._looked = -_LOOK_EVERY

    def check(self, job: Job) -> list[Problem]:
        """Options that contradict the trainer or each other, and a machine without SLURM."""
        problems = [*self._misfits(job.config["trainer"]), *self._wrong_words()]
        if not (self.dry_run or slurm_commands.available()):
            message = (
                "sbatch is not on this machine: type the command on a login node of the cluster; "
                "launcher.dry_run=true shows the batch script anywhere"
            )
            problems.append(Problem("launcher.type", message))
        return problems

    def describe(self, job: Job) -> str:
        """The batch script."""
        trainer = job.config["trainer"]
        tasks = 1 if trainer["devices"] == "auto" else trainer["devices"]
        gpus = self._gpus(trainer)
        words = [
            f"--job-name={_plain(self.place.name if job.name == self.place.name else f'{self.place.name}/{job.name}')}",
            f"--nodes={trainer.get('num_nodes', 1)}",
            f"--ntasks-per-node={tasks}",
            *([f"--gpus-per-node={gpus}"] if gpus else []),
            *(f"--{name}={value}" for name, value in self._asked_for.items() if value is not None),
            "--requeue" if self.requeue else "--no-requeue",
            "--open-mode=append",
            f"--output={str(job.folder / OUTPUT).replace('%', '%%')}",
            *self.extra,
        ]
        # srun does not take this over from sbatch; and every process must see all GPUs, to choose its own.
        srun = [f"--cpus-per-task={self.cpus_per_task}"] if self.cpus_per_task else []
        srun += ["--gpu-bind=none"] if gpus else []
        return batch_script(
            job.folder, directives=words, srun=srun, setup=self.setup, python=sys.executable, requeue=self.requeue
        )

    def room(self) -> bool:
        """Whether SLURM may have one more."""
        return self.jobs is None or len(self._under_way) < self.jobs

    def ready(self, job: Job) -> bool:
        """Whether SLURM may have one more, be it this or another."""
        return self.room()

    def start(self, job: Job) -> None:
        """Submit it.

        Raises:
            AttnbuildError: SLURM does not take it.
        """
        folder = RunFolder(job.folder)
        script = folder.write_text(SCRIPT, self.describe(job))
        status = Status.read(job.folder) or Status()
        before, status.status = status.status, "queued"
        status.write(job.folder)  # now: it may run before we hear of it
        try:
            number = slurm_commands.submit(script)
        except AttnbuildError:
            status.status = before
            status.write(job.folder)
            raise
        folder.write_text(NUMBER, json.dumps({"job": number, "submitted": now()}) + "\n")
        self._under_way[job.folder] = _Submitted(number)
        self._queue = None

    def adopt(self, job: Job) -> bool:
        """Whether SLURM still has the job of an earlier call."""
        try:
            number = int(json.loads((job.folder / NUMBER).read_text(encoding="utf-8"))["job"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        if number not in slurm_commands.listed():
            return False
        self._under_way[job.folder] = _Submitted(number)
        return True

    def poll(self, job: Job) -> bool:
        """Whether SLURM has it no more; it then says how it ended, or SLURM does."""
        submitted = self._under_way[job.folder]
        queue = self._look()
        if queue is None:
            return False
        if submitted.number in queue:
            self._watch(job, submitted, queue[submitted.number])
            return False
        submitted.gone = submitted.gone or time.monotonic()
        status = Status.read(job.folder) or Status()
        if status.status in (*UNDER_WAY, "waiting"):
            state = slurm_commands.ended_as(submitted.number)
            if state in _LEAVES_WORD and time.monotonic() - submitted.gone < _SEEN_WITHIN:
                return False
            status.status = _TOLD.get(state, "killed")
            status.reason = f"SLURM says of its job {submitted.number}: {state or 'nothing any more'}"
            status.ended = now()
            status.write(job.folder)
        del self._under_way[job.folder]
        return True

    def cancel(self, job: Job) -> None:
        """Ask it to save and to end; one that waits is taken off the queue."""
        submitted = self._under_way[job.folder]
        if submitted.asked is None:
            submitted.asked = time.monotonic()
            slurm_commands.stop(submitted.number)
            self._queue = None

    def _look(self) -> dict[int, str] | None:
        """SLURM's queue, as of a few seconds ago; None when it cannot be seen."""
        if self._queue is None or time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            try:
                self._queue = slurm_commands.listed()
            except AttnbuildError as error:  # it may come back, and its jobs go on without us
                _log.warning("%s", error)
                return None
        return self._queue

    def _watch(self, job: Job, submitted: _Submitted, state: str) -> None:
        """What is to be done about a job that SLURM has."""
        if state == "PENDING":
            back_in_queue(job.folder)
        if submitted.asked is not None and not submitted.insisted:
            submitted.insisted = time.monotonic() - submitted.asked > _SAVES_WITHIN
            if submitted.insisted:
                slurm_commands.cancel(submitted.number)

    # Options

    def _gpus(self, trainer: dict[str, Any]) -> int | str:
        """GPUs of each machine; 0 for none."""
        if self.gpus_per_node is not None:
            return self.gpus_per_node
        return trainer["devices"] if trainer["accelerator"] in ("gpu", "cuda") else 0

    def _misfits(self, trainer: dict[str, Any]) -> Iterable[Problem]:
        """Where trainer and options do not go together."""
        accelerator, devices = trainer["accelerator"], trainer["devices"]
        if accelerator not in ("cpu", "gpu", "cuda"):
            message = f"{accelerator!r} would mean what this machine has, not what the job's has: say cpu or gpu"
            yield Problem("trainer.accelerator", message)
        elif devices == "auto" and accelerator != "cpu":
            message = "'auto' would count the GPUs of this machine, not of the job's: say how many each machine has"
            yield Problem("trainer.devices", message)
        elif self.gpus_per_node is not None:
            wanted = 0 if accelerator == "cpu" else devices
            count = _count(self.gpus_per_node)
            if count is None:
                message = f"{self.gpus_per_node!r}: expected a number, or a kind and a number, as a100:4"
                yield Problem("launcher.gpus_per_node", message)
            elif count != wanted:
                message = f"{count}, and the trainer uses {wanted} on each machine: leave it out, or set " + (
                    "trainer=gpu" if accelerator == "cpu" else f"trainer.devices={count}"
                )
                yield Problem("launcher.gpus_per_node", message)

    def _wrong_words(self) -> Iterable[Problem]:
        """Words that are not to be in a batch script, or not there."""
        for word in self.extra:
            name = word.partition("=")[0].partition(" ")[0]
            if not word.startswith("-") or "\n" in word:
                yield Problem("launcher.extra", f"{word!r}: expected words for sbatch, as --mail-type=END")
            elif name in _OWN_WORDS:
                instead = f"set {_OWN_WORDS[name]}" if _OWN_WORDS[name] else "attnbuild sets it itself"
                yield Problem("launcher.extra", f"{word!r}: {instead}")
        for name, value in self._asked_for.items():
            if isinstance(value, str) and ("\n" in value or not value.strip()):
                yield Problem(f"launcher.{name.replace('-', '_')}", f"{value!r}: expected one line")


def back_in_queue(folder: str | Path) -> None:
    """Note that a job that was interrupted will go on by itself."""
    status = Status.read(Path(folder))
    if status is not None and status.status == "interrupted":
        status.status, status.reason = "queued", "it went back to the queue, and goes on from its checkpoint"
        status.write(Path(folder))


def _count(gpus: int | str) -> int | None:
    """The number in ``4`` or ``a100:4``."""
    number = str(gpus).rpartition(":")[2]
    return int(number) if number.isdecimal() else None


def _plain(name: str) -> str:
    """A name as SLURM's lists show it."""
    return "".join(letter if letter.isalnum() or letter in "-_./" else "-" for letter in name)[:120]


if __name__ == "__main__":
    back_in_queue(sys.argv[1])
