"""A task that trains in milliseconds: predict the next of a few numbers that follow a rule.

It is a plugin, so that processes started by a test find it by ``plugins: [fake_task]``.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from attnbuild.errors import DataError
from attnbuild.registry import register
from attnbuild.training.callbacks import CallbackPlace
from attnbuild.training.task import SPLITS, Loss, Prediction, Task, TaskPlace

SIZE = 11
LENGTH = 6


class Tokens(Metric):
    """Percentage of right tokens, under the name and with the signature of a text metric."""

    signature = "tokens|fake"

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, right: int, total: int) -> None:
        self.sums += torch.tensor([right, total], dtype=torch.float64)

    def compute(self) -> torch.Tensor:
        return 100 * self.sums[0] / self.sums[1]


class FakeSearch:
    description = "greedy"


class Stream:
    """Batch k is a function of the seed and k; ranks take turns over its rows."""

    def __init__(self, seed: int, start: int, rank: int, world_size: int, rows: int) -> None:
        self.seed, self.start, self.rank, self.world_size, self.rows = seed, start, rank, world_size, rows

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        for k in itertools.count(self.start):
            yield make_rows(np.random.default_rng([self.seed, k]), self.rows)[self.rank :: self.world_size]


def make_rows(generator: np.random.Generator, rows: int) -> list[np.ndarray]:
    """Sequences of different lengths in which each number is thrice the last and one, now and then a slip."""
    made = []
    for length in generator.integers(3, LENGTH + 1, rows):
        values = [int(generator.integers(1, SIZE))]
        for _ in range(length - 1):
            slip = generator.random() < 0.1
            values.append(int(generator.integers(1, SIZE)) if slip else (3 * values[-1]) % (SIZE - 1) + 1)
        made.append(np.array(values))
    return made


def pad(rows: Sequence[np.ndarray]) -> torch.Tensor:
    return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)


class FakeModel(nn.Module):
    def __init__(self, dropout: float, running: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SIZE, 16)
        self.running = nn.BatchNorm1d(16) if running else nn.Identity()
        self.norm = nn.LayerNorm(16)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(16, SIZE)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(tokens)
        embedded = self.running(embedded.flatten(0, -2)).view_as(embedded)
        return self.output(self.dropout(self.norm(embedded)))


@register("task", "fake")
class FakeTask(Task):
    """Next-number prediction.

    Args:
        dropout: chance of a zero.
        rows: sequences in a batch.
        fail_on_rank: the rank that finds the data unreadable, to see how others take it.
        seconds: how long a training batch takes to load.
        held_out: examples of validation and test; five make a batch.
        running: whether the model has running statistics.
    """

    monitor = "bleu"

    def __init__(
        self,
        place: TaskPlace,
        *,
        dropout: float = 0.2,
        rows: int = 8,
        fail_on_rank: int = -1,
        seconds: float = 0.0,
        held_out: int = 21,
        running: bool = False,
    ) -> None:
        super().__init__(place)
        self.dropout = dropout
        self.rows = rows
        self.fail_on_rank = fail_on_rank
        self.seconds = seconds
        self.held_out, self.running = held_out, running
        self.vocabulary = ""

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def prepare(self, splits: Sequence[str] = SPLITS) -> None:
        if int(os.environ.get("RANK", -1)) == self.fail_on_rank >= 0:
            raise DataError("numbers.txt:7: is no number")
        self.vocabulary = self.vocabulary or "numbers"

    def artifacts(self) -> dict[str, str]:
        return {"tokenizer.json": self.vocabulary}

    def restore(self, artifacts: dict[str, str]) -> None:
        self.vocabulary = artifacts["tokenizer.json"]

    def build_model(self) -> nn.Module:
        return FakeModel(self.dropout, self.running)

    def train_loader(self, *, rank: int, world_size: int, start_step: int) -> DataLoader[Any]:
        stream = Stream(self.place.config["seed"], start_step, rank, world_size, self.rows * world_size)
        return DataLoader(_Rows(), batch_sampler=stream, collate_fn=self._collate)

    def _collate(self, rows: list[np.ndarray]) -> torch.Tensor:
        time.sleep(self.seconds)
        return pad(rows)

    def eval_loader(self, split: str, *, rank: int, world_size: int) -> DataLoader[Any]:
        rows = list(enumerate(make_rows(np.random.default_rng(SPLITS.index(split)), self.held_out)))[rank::world_size]
        batches = [rows[start : start + 5] for start in range(0, len(rows), 5)]
        return DataLoader(_Rows(), batch_sampler=batches, collate_fn=lambda rows: rows)

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        tokens = batch if isinstance(batch, torch.Tensor) else pad([row for _, row in batch])
        logits, expected = model(tokens[:, :-1]), tokens[:, 1:]
        total = F.cross_entropy(logits.flatten(0, 1), expected.flatten(), ignore_index=0, reduction="sum")
        real = expected != 0
        return Loss(total, real.sum(), ((logits.argmax(-1) == expected) & real).sum())

    def metrics(self) -> dict[str, Metric]:
        return {"bleu": Tokens()}

    def search(self, section: dict[str, Any]) -> FakeSearch:
        return FakeSearch()

    def evaluate(self, model: nn.Module, batch: Any, search: Any, metrics: dict[str, Metric]) -> list[Prediction]:
        predictions = []
        for index, row in batch:
            guess = model(torch.from_numpy(row[:-1])).argmax(-1).numpy()
            metrics["bleu"].update(int((guess == row[1:]).sum()), len(guess))
            text, reference = (" ".join(map(str, values)) for values in (guess, row[1:]))
            predictions.append(Prediction(index, text, str(row[0]), reference))
        return predictions

    def predict(self, model: nn.Module, inputs: Iterable[str], search: Any) -> Iterator[Prediction]:
        for index, line in enumerate(inputs):
            guess = model(torch.tensor([int(line)])).argmax(-1).item()
            yield Prediction(index, str(guess), line)


class Crash(Callback):
    """What a test lets happen after an update; nothing runs after a real kill, so nothing is caught."""

    def __init__(self, step: int, how: str) -> None:
        self.step = step
        self.how = how

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            if self.how == "error":
                raise RuntimeError("crash")
            if self.how != "validation":
                os.kill(os.getpid(), signal.Signals[self.how])

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        if self.how == "validation" and trainer.global_step == self.step:
            raise RuntimeError("crash")


@register("callback", "crash")
def crash(place: CallbackPlace, *, step: int, how: str = "error") -> Crash:
    """End the process after an update.

    Args:
        step: which update.
        how: by an error, one while validating ("validation"), or a signal by its name.
    """
    return Crash(step, how)


class _Rows(torch.utils.data.Dataset):
    """The sampler already gives rows; there is nothing to look up."""

    def __getitem__(self, row: Any) -> Any:
        return row
