"""The fake task with accidents: losses that are no numbers, memory that is refused, a clock that jumps.

It is a plugin, so that processes started by a test find it by ``plugins: [faulty_task]``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fake_task import FakeTask
from lightning.pytorch import Callback
from torch import nn

from attnbuild.registry import register
from attnbuild.training.callbacks import CallbackPlace
from attnbuild.training.task import Loss, TaskPlace

#: The number that all rows of a poisoned batch consist of.
POISON = 7


@register("task", "faulty")
class FaultyTask(FakeTask):
    """Next-number prediction with accidents.

    Args:
        poisoned: batches of the training stream, from 0, that do harm.
        harm: what they do: nan, gradient (of a loss that is a number), memory, allocation (really asked for).
        on_rank: the rank on which they do; -1 is all.
        refused: where else memory is refused: loss or evaluate of a validation batch.
        dropout: chance of a zero.
        running: whether the model has running statistics.
        seconds: how long a training batch takes to load.
    """

    def __init__(
        self,
        place: TaskPlace,
        *,
        poisoned: list[int] | None = None,
        harm: str = "nan",
        on_rank: int = -1,
        refused: str = "",
        dropout: float = 0.2,
        running: bool = False,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(place, dropout=dropout, running=running, seconds=seconds)
        self.poisoned, self.harm, self.on_rank, self.refused = poisoned or [], harm, on_rank, refused

    def train_loader(self, *, rank: int, world_size: int, start_step: int) -> Any:
        loader = super().train_loader(rank=rank, world_size=world_size, start_step=start_step)
        here = self.poisoned if self.on_rank in (-1, rank) else []

        class Poisoned:
            def __iter__(self) -> Iterator[torch.Tensor]:
                for number, batch in enumerate(loader, start_step):
                    yield torch.full_like(batch, POISON) if number in here else batch

        return Poisoned()

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        if not model.training:
            if self.refused == "loss":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().loss(model, batch)
        bad = bool((batch == POISON).all())
        if bad and self.harm == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if bad and self.harm == "allocation":
            torch.empty(2**52)
        if bad and self.harm == "nan" and hasattr(model.running, "running_mean"):
            model.running.running_mean.fill_(torch.nan)  # as a batch with a NaN in it does
        loss = super().loss(model, batch)
        if bad and self.harm == "nan":
            return Loss(loss.total * torch.nan, loss.weight, loss.correct)
        if bad:
            return Loss(_BadGradient.apply(loss.total), loss.weight, loss.correct)
        return loss

    def evaluate(self, model: nn.Module, batch: Any, search: Any, metrics: Any) -> Any:
        if self.refused == "evaluate":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().evaluate(model, batch, search, metrics)


class _BadGradient(torch.autograd.Function):
    """A number with an infinite gradient, as the square root has at 0."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.inf


class Snapshots(Callback):
    """Weights, running statistics and optimiser state after each update, by its number."""

    def __init__(self, on_the_side: bool) -> None:
        self.on_the_side = on_the_side

    def on_train_start(self, trainer: Any, module: Any) -> None:
        TAKEN.clear()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        module.guard.waits = not self.on_the_side

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if module.batches % trainer.accumulate_grad_batches:
            return
        fused = all(group.get("fused") for group in trainer.optimizers[0].param_groups)
        assert hasattr(trainer.optimizers[0], "found_inf") == bool(self.on_the_side and fused and module.guard.skip)
        states = trainer.optimizers[0].state_dict()["state"]
        state = {f"{key}.{name}": value.clone() for key, values in states.items() for name, value in values.items()}
        TAKEN[trainer.global_step] = {name: value.clone() for name, value in module.state_dict().items()} | state


TAKEN: dict[int, dict[str, torch.Tensor]] = {}


@register("callback", "snapshots")
def snapshots(place: CallbackPlace, *, on_the_side: bool = False) -> Snapshots:
    """Remember all states.

    Args:
        on_the_side: let the verdict on an update come one update later, as on a GPU.
    """
    return Snapshots(on_the_side)


class Clock(Callback):
    """A clock that jumps at an update."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step, self.seconds = step, seconds
        self.real = time.time

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            time.time = lambda: self.real() + self.seconds

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if stage == "test":
            time.time = self.real


@register("callback", "clock")
def clock(place: CallbackPlace, *, step: int, seconds: float) -> Clock:
    """Set the clock.

    Args:
        step: after which update.
        seconds: by how much.
    """
    return Clock(step, seconds)


class Fill(Callback):
    """Fills the disk of the run folder after an update, or makes it read-only."""

    def __init__(self, folder: Path, step: int, how: str) -> None:
        self.folder, self.step, self.how = folder, step, how

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step != self.step:
            return
        if self.how == "read-only":
            make_read_only(self.folder / "checkpoints")
            return
        with (self.folder.parent / "ballast").open("wb") as file:
            try:
                while True:
                    file.write(b"0" * 4096)
                    file.flush()
            except OSError:
                pass


def make_read_only(folder: Path) -> None:
    """Until it is unmounted."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


@register("callback", "fill")
def fill(place: CallbackPlace, *, step: int, how: str = "full") -> Fill:
    """Let nothing be written any more.

    Args:
        step: after which update.
        how: full or read-only.
    """
    return Fill(place.run.path, step, how)


class KillRank(Callback):
    """A rank that is killed after an update."""

    def __init__(self, step: int, rank: int) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


@register("callback", "kill_rank")
def kill_rank(place: CallbackPlace, *, step: int, rank: int) -> KillRank:
    """End a rank.

    Args:
        step: after which update.
        rank: which one.
    """
    return KillRank(step, rank)
