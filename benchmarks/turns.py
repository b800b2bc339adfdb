"""A training as it is typed, an update whenever told to: it can race with others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from lightning.pytorch import Callback

from attnbuild.cli.main import main as attnbuild
from attnbuild.data.batching import Batch
from attnbuild.registry import register

__all__ = ["ENDLESS", "Parts", "Turns", "serve_training"]

#: Indices of the examples of one update, batch by batch.
Parts = list[list[int]]

#: Words of a training that goes on until it is told to end, and does nothing else.
ENDLESS = (
    *("trainer.max_steps=1000000", "trainer.max_minutes=null", "validation.every=1000000"),
    *("validation.maps=0", "callbacks.turns={}"),
)


class Turns(Callback):
    """Lets a training wait for its turn before each update, and tells what the update was.

    An update lasts from the start of its first batch to that of the next one's: what lies between, logging
    and the making of batches, is in it.
    """

    def __init__(self, line: Connection) -> None:
        self.line = line
        self.parts: Parts = []
        self.amount = 0.0
        self.began: float | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        module.task.loss = self.counted(module.task.loss)
        self.line.send("ready")

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Batch, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            if self.began is not None:
                self.line.send(self.told(time.perf_counter() - self.began))
            self.wait(module)
            self.parts, self.amount, self.began = [], 0.0, time.perf_counter()
        self.parts.append(batch.index.tolist())

    def told(self, seconds: float) -> tuple[Any, ...]:
        """Of an update: seconds, real target tokens (or examples), and which examples they were."""
        return seconds, self.amount, self.parts

    def wait(self, module: Any) -> None:
        """Until an update is asked for; whatever else is asked is answered here."""
        while (told := self.line.recv()) != ("update",):
            if told is None:
                os._exit(0)  # no test, no checkpoint: nothing here is kept
            self.line.send(self.answer(module, *told))

    def answer(self, module: Any, *asked: Any) -> Any:
        raise NotImplementedError

    def counted(self, loss_of: Callable[..., Any]) -> Callable[..., Any]:
        def counted_loss(*arguments: Any, **options: Any) -> Any:
            loss = loss_of(*arguments, **options)
            self.amount += float(loss.weight)
            return loss

        return counted_loss


def serve_training(turns: type[Turns], words: Sequence[str], folder: str, line: Connection) -> None:
    """``attnbuild train WORDS``, with ENDLESS among them, in turns."""
    register("callback", "turns")(lambda place: turns(line))
    os.chdir(folder)
    raise SystemExit(attnbuild(["train", *words, "paths.outputs=outputs"]))
