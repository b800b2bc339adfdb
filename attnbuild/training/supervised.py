"""What all tasks share that learn from pairs of a source and a target: scores, predictions, pictures.

Such a task says what its two sides are (``two_sides.py`` makes data and model of them), and has a loss, an answer and
metrics of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from attnbuild.data.batching import Batch
from attnbuild.data.sides.images import ImageSide
from attnbuild.data.sides.text import PAIR_SEPARATOR
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK
from attnbuild.errors import DataError
from attnbuild.generation.base import Search, SearchPlace
from attnbuild.model import EncoderDecoder
from attnbuild.printable import in_one_line
from attnbuild.registry import build
from attnbuild.training.spread import spread
from attnbuild.training.task import Prediction
from attnbuild.training.two_sides import TwoSidedTask

if TYPE_CHECKING:
    from torchmetrics import Metric

    from attnbuild.data.corpus import Corpus
    from attnbuild.data.pictures import Picture
    from attnbuild.data.sides.base import Side

__all__ = ["Answer", "SupervisedTask", "picture_file"]

#: Inputs read ahead in prediction, so that those of equal length can go together.
_CHUNK = 512

#: Pixels of the images in pictures of attention.
_SHOWN = 256


@dataclass(frozen=True)
class Answer:
    """What the model made of one source.

    Attributes:
        text: as a user reads it.
        score: how sure the model is.
        n_best: (text, score) of all that was found, the best first.
        tokens: of the text, without special tokens, where the task writes.
        probabilities: of each label, (labels,), where the task gives labels.
    """

    text: str
    score: float
    n_best: tuple[tuple[str, float], ...] = ()
    tokens: tuple[int, ...] = ()
    probabilities: Tensor | None = None


class SupervisedTask(TwoSidedTask):
    """Base of tasks that learn from pairs of a source and a target."""

    # What each task has of its own

    @abstractmethod
    def answer(self, model: EncoderDecoder, source: Tensor, index: Tensor, search: Any) -> list[Answer]:
        """What the model makes of a batch of sources, (B, ...); ``index`` (B,) numbers them in their data."""

    @abstractmethod
    def update(self, metrics: dict[str, Metric], answers: list[Answer], batch: Batch) -> None:
        """Score the answers to a batch that has texts."""

    def draw(
        self, model: EncoderDecoder, inputs: dict[int, Any], answers: list[Answer], sources: Tensor, folder: Path
    ) -> list[Path]:
        """Draw what the model attended to; the files written, none by default.

        Args:
            model: in evaluation mode.
            inputs: number -> value as a reader gives it; files are named by the numbers.
            answers: what the model made of them.
            sources: the inputs as one batch, on the model's device.
            folder: gets the files.
        """
        return []

    # Answers

    def searches(self) -> dict[str, dict[str, Any]]:
        """The sections that say how outputs are found, by their paths in the config."""
        return {"search": self.config["search"], "validation.search": self.config["validation"]["search"]}

    def search(self, section: dict[str, Any]) -> Search:
        return build("search", SearchPlace(BOS, EOS, PAD, UNK), section, "search")

    @torch.no_grad()
    def evaluate(self, model: nn.Module, batch: Batch, search: Any, metrics: dict[str, Metric]) -> list[Prediction]:
        assert isinstance(model, EncoderDecoder)
        assert batch.texts is not None, "batches of eval_loader carry their texts"
        answers = self.answer(model, batch.source, batch.index, search)
        self.update(metrics, answers, batch)
        rows = zip(batch.index.tolist(), answers, *batch.texts, strict=True)
        return [
            Prediction(index, found.text, source, target, found.score, found.n_best)
            for index, found, source, target in rows
        ]

    @torch.no_grad()
    def predict(self, model: nn.Module, inputs: Iterable[Any], search: Any) -> Iterator[Prediction]:
        assert isinstance(model, EncoderDecoder)
        stream = enumerate(inputs)
        while chunk := list(islice(stream, _CHUNK)):
            yield from self._predict_chunk(model, chunk, search)

    def _predict_chunk(self, model: EncoderDecoder, chunk: list[tuple[int, Any]], search: Any) -> list[Prediction]:
        """An empty line and an unreadable image have an empty answer, so that lines stay aligned."""
        source, device = self.source_side, self.device_of(model)
        values = {index: self._parsed(given, index) for index, given in chunk}
        done = {index: Prediction(index, "", source.text(value)) for index, value in values.items() if not value}
        stored = self._encoded({index: value for index, value in values.items() if value})
        indices = list(stored)
        widths = np.array([[source.width(stored[index])] for index in indices], np.int64).reshape(-1, 1)
        for _, rows in self._eval_batches(widths):
            numbers = [indices[row] for row in rows]
            batch = source.collate([stored[number] for number in numbers], None).to(device)
            answers = self.answer(model, batch, torch.tensor(numbers, device=device), search)
            for number, found in zip(numbers, answers, strict=True):
                text = source.text(values[number])
                done[number] = Prediction(number, found.text, text, score=found.score, n_best=found.n_best)
        for index in values.keys() - done.keys():
            done[index] = Prediction(index, "", source.text(values[index]))
        return [done[index] for index, _ in chunk]

    def _parsed(self, given: Any, number: int) -> Any:
        """A line as a reader would give it; a picture, or a pair from a table, as it is."""
        if not isinstance(given, str):
            return given
        if not self.config["data"].get("pair"):
            return given.strip()
        parts = [part.strip() for part in given.split(PAIR_SEPARATOR)]
        if len(parts) != 2 and given.strip():
            raise DataError(
                f"line {number + 1} of the input: the model reads pairs of texts, parted by a tab, and here are "
                f"{len(parts)}: {in_one_line(given, 60)!r}"
            )
        return tuple(parts) if given.strip() else ""

    def _encoded(self, values: dict[int, Any]) -> dict[int, np.ndarray]:
        """Stored arrays by number, without those of unreadable images."""
        source: Side = self.source_side
        if not isinstance(source, ImageSide):
            return dict(zip(values, source.encode(list(values.values())), strict=True))
        stored = {}
        for index, value in values.items():
            try:
                stored[index] = source.encode([value])[0]
            except DataError as error:
                self.unread.append(str(error))
        return stored

    # Pictures of attention

    def shown(self, picture: Picture) -> np.ndarray:
        """The part of a picture that the model sees, at a size for people: (H, W, C) uint8."""
        side = self.source_side
        return picture.load(_SHOWN, side.channels, side.fit).transpose(1, 2, 0)

    @torch.no_grad()
    def explain(self, model: nn.Module, inputs: dict[int, Any], search: Any, folder: Path) -> list[Path]:
        assert isinstance(model, EncoderDecoder)
        values = {number: self._parsed(given, number) for number, given in inputs.items()}
        stored = self._encoded({number: value for number, value in values.items() if value})
        if not stored:
            return []
        device = self.device_of(model)
        sources = self.source_side.collate(list(stored.values()), None).to(device)
        answers = self.answer(model, sources, torch.tensor(list(stored), device=device), search)
        folder.mkdir(parents=True, exist_ok=True)
        return self.draw(model, {number: values[number] for number in stored}, answers, sources, folder)

    def maps(self, model: nn.Module, count: int, folder: Path) -> list[Path]:
        corpus = self.corpora["validation"]
        indices = spread(count, len(corpus))
        search = self.search(self.config["validation"]["search"])
        return self.explain(model, dict(zip(indices, self._values(corpus, indices), strict=True)), search, folder)

    def _values(self, corpus: Corpus, indices: list[int]) -> list[Any]:
        """Sources of a corpus as inputs to predict from."""
        texts = corpus.texts(indices)[0]
        if not isinstance(self.source_side, ImageSide):
            return list(texts)
        from attnbuild.data.pictures import Picture

        pixels = (self.source_side.pixels(row).transpose(1, 2, 0) for row in corpus.rows(indices)[0])
        images = (image[:, :, 0] if image.shape[2] == 1 else image for image in pixels)
        return [Picture(image, name) for image, name in zip(images, texts, strict=True)]


def picture_file(folder: Path, number: int, picture: Picture) -> Path:
    """Where the drawing of a picture goes: named as its file is, where it comes from one."""
    name = f"{number}-{picture.data.stem}" if isinstance(picture.data, Path) else f"{number}"
    return folder / f"{name}.png"
