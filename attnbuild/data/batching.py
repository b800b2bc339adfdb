"""Batches by token budget: which examples go together, in which order, on which rank."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from attnbuild.data.corpus import Corpus
from attnbuild.data.sides.base import Side
from attnbuild.errors import DataError

__all__ = ["Batch", "Chosen", "EvalBatches", "Examples", "TrainBatches", "example_loader"]

#: A batch: its number in the training stream, None in evaluation, and the indices of its examples.
Chosen = tuple[int | None, list[int]]


class TrainBatches(Sampler[Chosen]):
    """An endless stream of training batches: batch k depends on the seed and k alone.

    An epoch is cut into batches of similar length, each padded side within the budget; their order
    and the choice among examples of a length are drawn anew in every epoch, the number and shape
    of the batches stay. Batch 0 is the costliest, so that a budget too large for the memory shows
    at once. At step s, rank r takes batch s * world_size + r, over the ends of epochs, so every rank
    has a batch at every step and no example is dropped.

    Args:
        widths: tokens of source and target, shape (examples, 2).
        tokens: budget of a side: rows x longest row, padding included.
        rows: most examples in a batch.
        seed: with the number of the epoch, what the order is drawn from.
        rank: number of this process.
        world_size: number of processes.
        start_step: the step to start at, when resuming.

    Raises:
        DataError: there is no pair, or one exceeds the budget alone.
    """

    def __init__(
        self,
        widths: np.ndarray,
        *,
        tokens: int,
        rows: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ) -> None:
        longest = widths.max(axis=1, initial=0)
        _check_fits(longest, tokens)
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._start_step = start_step
        self._widths = np.minimum(_round_up(longest), tokens)
        sorted_widths = np.sort(self._widths)[::-1]
        self._cuts = _cut(sorted_widths, tokens, rows)
        # Rows times squared width: attention's part, which outgrows the others as sentences do.
        self._costliest = int(np.argmax(np.diff(self._cuts) * sorted_widths[self._cuts[:-1]] ** 2))
        self._epoch = -1
        self._load_epoch(0)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which all ranks together see every example once, rounded up."""
        return math.ceil(self._batches / self._world_size)

    def epoch_of(self, step: int) -> float:
        """How often the data has been seen before a step: 1.5 is one and a half times."""
        return step * self._world_size / self._batches

    def load_position(self, step: int) -> None:
        """Let the next iteration start at this step."""
        self._start_step = step

    def __iter__(self) -> Iterator[Chosen]:
        step = self._start_step
        while True:
            number = step * self._world_size + self._rank
            yield number, self.batch(number)
            step += 1

    def batch(self, number: int) -> list[int]:
        """Indices of the examples of a batch of the stream."""
        epoch, place = divmod(number, self._batches)
        self._load_epoch(epoch)
        chosen = self._batch_order[place]
        return self._row_order[self._cuts[chosen] : self._cuts[chosen + 1]].tolist()

    @property
    def _batches(self) -> int:
        return len(self._cuts) - 1

    def _load_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch: of rows within their length, and of batches."""
        if epoch == self._epoch:
            return
        draw = np.random.default_rng((self._seed, epoch))
        shuffled = draw.permutation(len(self._widths))
        self._row_order = shuffled[np.argsort(-self._widths[shuffled], kind="stable")]
        self._batch_order = draw.permutation(self._batches)
        if epoch == 0:
            others = self._batch_order[self._batch_order != self._costliest]
            self._batch_order = np.concatenate([[self._costliest], others])
        self._epoch = epoch


class EvalBatches(Sampler[Chosen]):
    """Every example exactly once over all ranks, longest first; nothing is repeated to fill up.

    Ranks may have different numbers of batches, and with little data none. An example beyond the
    budget is a batch of its own.

    Args:
        widths: tokens of source and target, shape (examples, 2).
        tokens: budget of a side: rows x longest row, padding included.
        rows: most examples in a batch.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, widths: np.ndarray, *, tokens: int, rows: int, rank: int = 0, world_size: int = 1) -> None:
        longest = widths.max(axis=1, initial=0).astype(np.int64)
        order = np.argsort(-longest, kind="stable")
        cuts = _cut(longest[order], tokens, rows)
        self._mine = [
            order[cuts[number] : cuts[number + 1]].tolist() for number in range(rank, len(cuts) - 1, world_size)
        ]

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[Chosen]:
        return ((None, indices) for indices in self._mine)


def _check_fits(longest: np.ndarray, tokens: int) -> None:
    if not len(longest):
        raise DataError("there is no example to make batches of")
    over = np.flatnonzero(longest > tokens)
    if len(over):
        worst = int(longest.argmax())
        others = f", or batch.max_length={tokens} or less" if len(over) < len(longest) else ""
        raise DataError(
            f"{len(over)} examples do not fit into a batch of batch.tokens={tokens}; the longest, "
            f"number {worst}, has {longest[worst]} tokens: set batch.tokens={longest[worst]} or more{others}"
        )


def _round_up(longest: np.ndarray) -> np.ndarray:
    """Lengths rounded up by at most a sixteenth, so that long sentences too find others of their length."""
    quantum = 2 ** np.maximum(np.floor(np.log2(longest)) - 4, 0).astype(np.int64)
    return -(-longest // quantum) * quantum


def _cut(widths: np.ndarray, tokens: int, most: int) -> np.ndarray:
    """Bounds of batches in rows that are sorted longest first, shape (batches + 1,).

    Rows of one width make batches of one size, give or take a row: what is left over would be a batch of its own,
    however small, and batch norm needs company.
    """
    if len(widths) and widths[0] == widths[-1]:
        rows = min(most, max(1, tokens // int(widths[0])))
        return np.linspace(0, len(widths), math.ceil(len(widths) / rows) + 1).astype(int)
    cuts = [0]
    while cuts[-1] < len(widths):
        rows = min(most, max(1, tokens // int(widths[cuts[-1]])))
        cuts.append(min(cuts[-1] + rows, len(widths)))
    return np.array(cuts)


@dataclass
class Batch:
    """A batch of examples.

    Attributes:
        source: token ids (B, S), padded on the right, int64; or pixels (B, C, H, W), uint8.
        target: as the task's target side makes it: token ids (B, T) from ``BOS`` to ``EOS``; labels (B,).
        index: number of each example in its corpus, shape (B,), int64.
        texts: source and target as a person reads them, for scoring; None in training.
    """

    source: Tensor
    target: Tensor
    index: Tensor
    texts: tuple[list[str], list[str]] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on a device."""
        return Batch(
            self.source.to(device, non_blocking=non_blocking),
            self.target.to(device, non_blocking=non_blocking),
            self.index.to(device, non_blocking=non_blocking),
            self.texts,
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies faster."""
        return Batch(self.source.pin_memory(), self.target.pin_memory(), self.index.pin_memory(), self.texts)


class Examples(Dataset[Batch]):
    """A corpus whose items are batches, named as the samplers name them.

    Args:
        corpus: the encoded examples.
        sides: make the tensors of sources and targets.
        seed: with the number of a training batch, what is drawn for it.
        with_texts: whether batches carry their texts.
    """

    def __init__(self, corpus: Corpus, sides: tuple[Side, Side], seed: int = 0, with_texts: bool = False) -> None:
        self._corpus, self._sides = corpus, sides
        self._seed, self._with_texts = seed, with_texts

    def __getitem__(self, chosen: Chosen) -> Batch:
        number, indices = chosen
        draw = None if number is None else np.random.default_rng((self._seed, number))
        source, target = (
            side.collate(rows, draw) for side, rows in zip(self._sides, self._corpus.rows(indices), strict=True)
        )
        texts = self._corpus.texts(indices) if self._with_texts else None
        return Batch(source, target, torch.tensor(indices), texts)


def example_loader(examples: Examples, sampler: Sampler[Chosen]) -> DataLoader[Batch]:
    """The batches of a corpus in the order of a sampler.

    A batch costs far less to make than to train on, so it is made in this process.
    """
    return DataLoader(examples, sampler=sampler, batch_size=None)
