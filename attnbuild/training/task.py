"""What a task gives the trainer: data, a model, a loss, metrics and predictions.

The trainer knows nothing else about translation, captioning or classification. A task is a plugin:
a class derived from ``Task`` and registered under the kind "task".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from attnbuild.data.readers.base import SPLITS
from attnbuild.errors import Problem
from attnbuild.inputs import Ends, TextInput

if TYPE_CHECKING:  # a look at the registry must not cost the import of torchmetrics
    from torch.utils.data import DataLoader
    from torchmetrics import Metric

__all__ = ["SPLITS", "Loss", "Prediction", "Task", "TaskPlace"]


@dataclass(frozen=True)
class TaskPlace:
    """What a task is built from.

    Attributes:
        config: the whole resolved config, plain Python values only.
        cache_dir: where tokenizers and encoded data may be kept, by content.
    """

    config: dict[str, Any]
    cache_dir: Path


@dataclass(frozen=True)
class Loss:
    """The loss of one batch as sums, so that batches of any size add up to the exact mean.

    Attributes:
        total: scalar with gradient: the loss summed over everything that counts (target tokens, images).
        weight: scalar: how many things were summed; the trainer divides by it.
        correct: scalar: how many of them the model got right, for the accuracy.
        unreported: scalar with gradient, trained beside the total but no part of the loss that is logged.
    """

    total: Tensor
    weight: Tensor
    correct: Tensor
    unreported: Tensor | None = None


@dataclass(frozen=True)
class Prediction:
    """What the model made of one input.

    Attributes:
        index: position of the input in its split or stream, from 0.
        text: the output as a user reads it; several labels one a line.
        source: the input as a user reads it: the sentence, the name of the image file.
        reference: the right answer where there is one; several one a line.
        score: how sure the model is, as the search ranks it.
        n_best: (text, score) of every output that the search returned, or of every label; the best first.
    """

    index: int
    text: str
    source: str = ""
    reference: str | None = None
    score: float | None = None
    n_best: tuple[tuple[str, float], ...] = ()


class Task(ABC):
    """One kind of problem to train for.

    A task lives through one of two orders of calls. Training: ``prepare``, ``build_model``, loaders and
    ``loss`` and ``evaluate``. From a checkpoint: ``restore``, ``build_model``, ``predict``; and, where
    data is read as well (resuming, testing), ``prepare`` after ``restore``.

    Args:
        place: the config and the cache folder.
    """

    #: The metric that chooses checkpoints, as "validation/<monitor>"; higher is better.
    monitor: str = "bleu"
    #: What its decoder gives, as decoders say in ``writes``.
    writes: ClassVar[str] = "text"
    #: What the weights of its losses count, for the speed of training: "tokens", "examples".
    unit: ClassVar[str] = "tokens"

    def __init__(self, place: TaskPlace) -> None:
        self.place = place
        self.unread: list[str] = []

    def check(self) -> list[Problem]:
        """What is wrong between this task and other sections of the config, found without data."""
        return []

    def sketch(self) -> Ends:
        """What the model will read and give, as far as is known without data."""
        return Ends(TextInput(8, 0), 8, self.writes)

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Which of "train", "validation" and "test" the data has."""

    @abstractmethod
    def prepare(self, splits: Sequence[str] = SPLITS) -> None:
        """Make ready what ``build_model`` and the loaders of these splits need: tokenizers, encoded data.

        Tokenizers that ``restore`` brought stay; others are trained here from "train", which may then be
        read although it is not in ``splits``. Everything slow is cached by content, atomically, so that a
        second process finds it made. Splits that the data lacks are passed over.

        Raises:
            DataError: the data cannot be read; the message names file and line.
        """

    @abstractmethod
    def artifacts(self) -> dict[str, str]:
        """File name -> text that the run folder and every checkpoint carry: the tokenizers."""

    @abstractmethod
    def restore(self, artifacts: dict[str, str]) -> None:
        """Take over what ``artifacts`` gave once, instead of making it anew. Reads no data."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The model with fresh weights. Needs ``prepare`` or ``restore`` first."""

    def misfits(self, model: nn.Module) -> list[Problem]:
        """Options of the model that are too low for the longest example of the prepared splits; none by default."""
        return []

    @abstractmethod
    def train_loader(self, *, rank: int, world_size: int, start_step: int) -> DataLoader[Any]:
        """The endless stream of training batches of one rank.

        Batch k of the stream depends on the seed and on k alone; all ranks see equally many batches.

        Args:
            rank: which process this is, from 0.
            world_size: how many processes share the data.
            start_step: batches of the stream already taken (micro-batches, not optimiser steps); the
                loader starts with the one after them.
        """

    @abstractmethod
    def eval_loader(self, split: str, *, rank: int, world_size: int) -> DataLoader[Any]:
        """The batches of a split for one rank: over all ranks every example exactly once."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """The loss of a batch under teacher forcing.

        What only regularises (label smoothing) applies while ``model.training``; in evaluation the loss
        is the plain negative log-likelihood, whose exponential is the perplexity.
        """

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Fresh metrics by name; one is called ``monitor``. States are sums, so they add up over ranks.

        A metric with a string attribute ``signature`` has it stored beside its value. One whose value is
        more than a number (a confusion matrix) is a table, for ``report``.
        """

    @abstractmethod
    def search(self, section: dict[str, Any]) -> Any:
        """How outputs are found, from a section like ``search``; its ``description`` is logged."""

    @abstractmethod
    def evaluate(self, model: nn.Module, batch: Any, search: Any, metrics: dict[str, Metric]) -> list[Prediction]:
        """Predict a batch of a split with references and update the metrics with the result."""

    def baselines(self, split: str) -> dict[str, float]:
        """What a constant answer reaches, by the metrics' names: what a score is to be held against.

        Asked of one process alone: nothing in it may wait for the others.
        """
        return {}

    def report(self, tables: dict[str, Any], folder: Path) -> list[Path]:
        """Write what the tables of a test show; the files written, none by default."""
        return []

    @property
    def labels(self) -> list[str]:
        """Names for each of which a prediction has a share in ``n_best``; none where outputs are written."""
        return []

    @property
    def reads(self) -> str:
        """The modality of what is predicted from: text (lines) or image (files)."""
        return "text"

    @abstractmethod
    def predict(self, model: nn.Module, inputs: Iterable[Any], search: Any) -> Iterator[Prediction]:
        """Predict a stream of inputs, lines or ``Picture``s, lazily, in the order in which they came.

        An image that cannot be read has an empty prediction, and its error is added to ``unread``.
        """

    def explain(self, model: nn.Module, inputs: dict[int, Any], search: Any, folder: Path) -> list[Path]:
        """Predict numbered inputs and draw what the model attended to; the files written, none by default."""
        return []

    def maps(self, model: nn.Module, count: int, folder: Path) -> list[Path]:
        """``explain`` some validation examples; the files written, none by default."""
        return []

    def device_of(self, model: nn.Module) -> torch.device:
        """Where the model's parameters are, for the batches that ``predict`` makes itself."""
        return next(model.parameters()).device
