"""What follows from the two sides of a task's data: reading, encoding, batches, the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from attnbuild.data.batching import EvalBatches, Examples, TrainBatches, example_loader
from attnbuild.data.place import DataPlace, TokenizerPlace
from attnbuild.data.sides.images import ImageSide
from attnbuild.data.sides.text import TOKENIZER_FILE, TextSide
from attnbuild.data.tokenizers.merge_dropout import MergeDropout
from attnbuild.data.tokenizers.vocabulary import PAD, Vocabulary
from attnbuild.errors import Problem
from attnbuild.inputs import Ends, ImageInput, TextInput
from attnbuild.model import EncoderDecoder, build_model
from attnbuild.registry import build, lookup, names
from attnbuild.training.batch_norm import too_few
from attnbuild.training.lengths import too_low
from attnbuild.training.task import SPLITS, Task, TaskPlace

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from attnbuild.data.corpus import Corpus
    from attnbuild.data.readers.base import Reader

__all__ = ["TwoSidedTask"]

#: Labels of a model that is only sketched.
_SOME_LABELS = 10


class TwoSidedTask(Task):
    """Base of tasks whose examples have a source to read and a target to answer: their data and their model.

    Attributes:
        answers: what a reader's target must be able to serve as: "text", "captions", "labels".
        modalities: what its sources may be: "text", "image".
        corpora: the splits that were prepared.
    """

    answers: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, place: TaskPlace) -> None:
        super().__init__(place)
        self.corpora: dict[str, Corpus] = {}
        self._sides: tuple[Any, Any] | None = None

    @abstractmethod
    def sides(self, artifacts: Mapping[str, str] | None) -> tuple[Any, Any]:
        """Source and target side: from what ``artifacts`` gave once or, with None, made from the training data."""

    # Data

    @property
    def config(self) -> dict[str, Any]:
        """The whole resolved config."""
        return self.place.config

    @property
    def reads(self) -> str:
        data = self.config["data"]
        return lookup("data", data["type"]).source_modality(data)

    @cached_property
    def reader(self) -> Reader:
        """The data set that the config names."""
        return build("data", DataPlace(self.place.cache_dir, self.config["seed"]), self.config["data"], "data")

    def check(self) -> list[Problem]:
        task, data = self.config["task"]["type"], self.config["data"]["type"]
        targets, misfit = lookup("data", data).targets, ""
        if self.reads not in self.modalities:
            wanted = " or ".join(self.modalities)
            misfit = f"the sources of {data!r} are {self.reads}, and task {task!r} reads {wanted}"
        elif self.answers not in targets:
            misfit = f"{data!r} has {' or '.join(targets)} as targets, and task {task!r} needs {self.answers}"
        if misfit:
            fitting = ", ".join(way for name in names("data") if (way := self._way(name)))
            return [Problem("data.type", f"{misfit}; data sets that fit: {fitting}")]
        if self.reads == "text" and self.config["augmentation"]["type"] != "none":
            return [Problem("augmentation.type", "changes images, and this data is text: set augmentation=none")]
        return []

    def _way(self, data: str) -> str:
        """How a reader gives what this task reads and answers; empty where it does not."""
        reader = lookup("data", data)
        if self.answers not in reader.targets:
            return ""
        if reader.source in self.modalities:
            return data
        options = [option for modality, option in reader.by_option.items() if modality in self.modalities]
        return f"{data} with {options[0]}" if options else ""

    def splits(self) -> tuple[str, ...]:
        return self.reader.splits()

    def prepare(self, splits: Sequence[str] = SPLITS) -> None:
        if self._sides is None:
            self._sides = self.sides(None)
        for split in splits:
            if split in self.splits():
                self.corpora[split] = self._encode(split)
        source = self._sides[0]
        if isinstance(source, ImageSide) and source.mean is None:
            source.measure(self.corpora.get("train") or self._encode("train"))

    def _encode(self, split: str) -> Corpus:
        from attnbuild.data.corpus import encode

        limit = self.config["batch"]["max_length"]
        return encode(self.reader, split, self._both(), cache_dir=self.place.cache_dir, max_length=limit)

    def vocabularies(self, *sides: str) -> list[Vocabulary]:
        """The tokenizers of the sides that are text, "source" or "target", trained on the training data."""
        from attnbuild.data.tokenizers.training import train_vocabularies

        tokenizer = build("tokenizer", TokenizerPlace(self.place.cache_dir), self.config["tokenizer"], "tokenizer")
        return train_vocabularies(tokenizer, self.reader, self.place.cache_dir, sides)

    def vocabulary_of(self, side: str, artifacts: Mapping[str, str] | None) -> Vocabulary:
        """The tokenizer of the one side that is text, for ``sides``."""
        if artifacts is None:
            return self.vocabularies(side)[0]
        return Vocabulary.from_json(artifacts[TOKENIZER_FILE])

    def image_side(self, artifacts: Mapping[str, str] | None) -> ImageSide:
        """A source side of images, for ``sides``."""
        return ImageSide(**self.config["image"]) if artifacts is None else ImageSide.from_artifacts(dict(artifacts))

    def artifacts(self) -> dict[str, str]:
        source, target = self._both()
        return {**source.artifacts(), **target.artifacts()}

    def restore(self, artifacts: dict[str, str]) -> None:
        self._sides = self.sides(artifacts)

    def _both(self) -> tuple[Any, Any]:
        assert self._sides is not None, "prepare() or restore() comes first"
        return self._sides

    @property
    def source_side(self) -> Any:
        """The source side, ready to encode."""
        return self._both()[0]

    @property
    def target_side(self) -> Any:
        """The target side, ready to encode."""
        return self._both()[1]

    def train_loader(self, *, rank: int, world_size: int, start_step: int) -> DataLoader[Any]:
        corpus, batch, seed = self.corpora["train"], self.config["batch"], self.config["seed"]
        # Images whose captions are of one length are alike, and batch norm would see no others: they are drawn at
        # random, and rows alone are counted.
        widths = np.ones_like(corpus.widths) if self.reads == "image" else corpus.widths
        sampler = TrainBatches(
            widths,
            tokens=batch["tokens"],
            rows=batch["rows"],
            seed=seed,
            rank=rank,
            world_size=world_size,
            start_step=start_step,
        )
        self._drop_merges()
        return example_loader(Examples(corpus, self._both(), seed), sampler)

    def _drop_merges(self) -> None:
        """Let batches of training cut words up at random, as the tokenizer's section says."""
        for side in self._both():
            if isinstance(side, TextSide) and self._merge_dropout:
                longest = self.config["batch"]["max_length"] - 1  # its end token is to come
                side.merge_dropout = MergeDropout(side.vocabulary, self._merge_dropout, longest)

    @property
    def _merge_dropout(self) -> float:
        return self.config["tokenizer"].get("dropout", 0.0)

    def eval_loader(self, split: str, *, rank: int, world_size: int) -> DataLoader[Any]:
        corpus = self.corpora[split]
        sampler = self._eval_batches(corpus.widths, rank=rank, world_size=world_size)
        return example_loader(Examples(corpus, self._both(), with_texts=True), sampler)

    def _eval_batches(self, widths: np.ndarray, rank: int = 0, world_size: int = 1) -> EvalBatches:
        batch = self.config["batch"]
        return EvalBatches(
            widths, tokens=batch["eval_tokens"], rows=batch["eval_rows"], rank=rank, world_size=world_size
        )

    # Model

    def build_model(self) -> EncoderDecoder:
        source, target = self._both()
        both_text = isinstance(source, TextSide) and isinstance(target, TextSide)
        shared = both_text and source.vocabulary is target.vocabulary
        return build_model(self.config, Ends(source.input(), target.outputs, self.writes, shared))

    def sketch(self) -> Ends:
        tokenizer = build("tokenizer", TokenizerPlace(self.place.cache_dir), self.config["tokenizer"], "tokenizer")
        tokens = tokenizer.size_hint()
        outputs = tokens if self.writes == "text" else _SOME_LABELS
        if self.reads == "text":
            return Ends(TextInput(tokens, PAD), outputs, self.writes, tokenizer.joint and self.writes == "text")
        image = self.config["image"]
        ones = (1.0,) * image["channels"]
        source = ImageInput(image["channels"], image["size"], image["size"], ones, ones)
        return Ends(source, outputs, self.writes)

    @torch.no_grad()
    def misfits(self, model: nn.Module) -> list[Problem]:
        assert isinstance(model, EncoderDecoder)
        source, target = np.concatenate([corpus.widths for corpus in self.corpora.values()]).max(axis=0).tolist()
        if self._merge_dropout:  # which makes rows longer, up to this
            source, target = (max(longest, self.config["batch"]["max_length"]) for longest in (source, target))
        problems = []
        if self.reads == "image":  # all have the same number of cells
            images = self.corpora["train"]
            source = model.eval().encode(self.source_side.collate(images.rows([0])[0], None)).states.shape[1]
            problems = too_few(model.train(), source, len(images), self.config["batch"])
        target = max(target, self.longest_output(source))
        return problems + too_low(model, {"source": source, "memory": source, "target": target})

    def longest_output(self, source: int) -> int:
        """Tokens that the searches of this config may write for a source of so many positions."""
        return 0

    def augmented(self, model: nn.Module, source: Tensor) -> Tensor:
        """Images changed at random as the config says, while the model is trained; any other source as it is."""
        if not model.training or self.reads == "text" or self._augmentation is None:
            return source
        return self._augmentation(source)

    @cached_property
    def _augmentation(self) -> nn.Module | None:
        return build("augmentation", None, self.config["augmentation"], "augmentation")
