"""Translation: one text in, one text out, scored by BLEU and chrF on raw references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import nn

from attnbuild.data.batching import EvalBatches, PairBatch, TrainBatches, pair_loader
from attnbuild.data.place import DataPlace, TokenizerPlace
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, Vocabulary
from attnbuild.errors import ConfigError
from attnbuild.generation.base import Search, SearchPlace
from attnbuild.model import EncoderDecoder, build_model
from attnbuild.registry import build, register
from attnbuild.tasks.translation.maps import draw_maps
from attnbuild.tasks.translation.predict import translate_stream
from attnbuild.training.task import SPLITS, Loss, Prediction, Task, TaskPlace

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from torchmetrics import Metric

    from attnbuild.data.corpus import Corpus
    from attnbuild.data.readers.base import Reader

__all__ = ["Translation"]


@register("task", "translation")
class Translation(Task):
    """Encode a source text, decode its translation (Sutskever et al. 2014; Bahdanau et al. 2015).

    Args:
        label_smoothing: share of the target probability spread over the vocabulary (Szegedy et al. 2016), in training.
    """

    monitor = "bleu"
    #: What the rows of its data hold.
    reads = "pairs"

    def __init__(self, place: TaskPlace, *, label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.1) -> None:
        super().__init__(place)
        self.label_smoothing = label_smoothing
        self.vocabularies: tuple[Vocabulary, Vocabulary] | None = None
        self.corpora: dict[str, Corpus] = {}

    @property
    def config(self) -> dict[str, Any]:
        """The whole resolved config."""
        return self.place.config

    @cached_property
    def reader(self) -> Reader:
        """The data set that the config names."""
        place = DataPlace(self.place.cache_dir, self.config["seed"])
        reader = build("data", place, self.config["data"], "data")
        if reader.provides != self.reads:
            raise ConfigError(f"translation reads {self.reads}, and this data holds {reader.provides}", "data.type")
        return reader

    def splits(self) -> tuple[str, ...]:
        return self.reader.splits()

    def prepare(self, splits: Sequence[str] = SPLITS) -> None:
        from attnbuild.data.corpus import encode
        from attnbuild.data.tokenizers import train_vocabularies

        if self.vocabularies is None:
            place = TokenizerPlace(self.place.cache_dir)
            tokenizer = build("tokenizer", place, self.config["tokenizer"], "tokenizer")
            self.vocabularies = train_vocabularies(tokenizer, self.reader, self.place.cache_dir)
        for split in splits:
            if split in self.splits():
                self.corpora[split] = encode(
                    self.reader,
                    split,
                    *self.vocabularies,
                    cache_dir=self.place.cache_dir,
                    max_length=self.config["batch"]["max_length"],
                )

    def artifacts(self) -> dict[str, str]:
        source, target = self._vocabularies()
        if source is target:
            return {"tokenizer.json": source.to_json()}
        return {"tokenizer.source.json": source.to_json(), "tokenizer.target.json": target.to_json()}

    def restore(self, artifacts: dict[str, str]) -> None:
        if "tokenizer.json" in artifacts:
            shared = Vocabulary.from_json(artifacts["tokenizer.json"])
            self.vocabularies = (shared, shared)
        else:
            source, target = artifacts["tokenizer.source.json"], artifacts["tokenizer.target.json"]
            self.vocabularies = (Vocabulary.from_json(source), Vocabulary.from_json(target))

    def build_model(self) -> EncoderDecoder:
        source, target = self._vocabularies()
        return build_model(
            self.config,
            source_vocab=len(source),
            target_vocab=len(target),
            shared_vocabulary=source is target,
        )

    def train_loader(self, *, rank: int, world_size: int, start_step: int) -> DataLoader[Any]:
        corpus = self.corpora["train"]
        batches = TrainBatches(
            corpus.lengths,
            tokens=self.config["batch"]["tokens"],
            seed=self.config["seed"],
            rank=rank,
            world_size=world_size,
            start_step=start_step,
        )
        return pair_loader(corpus, batches)

    def eval_loader(self, split: str, *, rank: int, world_size: int) -> DataLoader[Any]:
        corpus = self.corpora[split]
        tokens = self.config["batch"]["eval_tokens"]
        batches = EvalBatches(corpus.lengths, tokens=tokens, rank=rank, world_size=world_size)
        return pair_loader(corpus, batches, with_texts=True)

    def loss(self, model: nn.Module, batch: PairBatch) -> Loss:
        assert isinstance(model, EncoderDecoder)
        decoded = model.decode(batch.source, batch.target[:, :-1])
        expected = batch.target[:, 1:]
        losses = F.cross_entropy(
            decoded.logits.flatten(0, 1),
            expected.flatten(),
            ignore_index=PAD,
            label_smoothing=self.label_smoothing if model.training else 0.0,
            reduction="none",
        )
        real = expected != PAD
        correct = (decoded.logits.detach().argmax(dim=-1) == expected) & real
        # What sampled attentions earn by their choices: the (smoothed) log probability of the whole target.
        reward = -losses.view_as(expected).sum(dim=1)
        unreported = [choice.loss(reward) for choice in decoded.choices]
        return Loss(losses.sum(), real.sum(), correct.sum(), torch.stack(unreported).sum() if unreported else None)

    def metrics(self) -> dict[str, Metric]:
        from attnbuild.training.metrics import ChrF, SacreBLEU

        return {"bleu": SacreBLEU(), "chrf": ChrF()}

    def search(self, section: dict[str, Any]) -> Search:
        return build("search", SearchPlace(BOS, EOS, PAD), section, "search")

    @torch.no_grad()
    def evaluate(
        self, model: nn.Module, batch: PairBatch, search: Search, metrics: dict[str, Metric]
    ) -> list[Prediction]:
        assert isinstance(model, EncoderDecoder)
        generated = search(model.decoder, model.encode(batch.source), batch.index)
        texts = self._vocabularies()[1].decode([hypotheses[0] for hypotheses in generated.tokens])
        assert batch.texts is not None, "batches of eval_loader carry their texts"
        sources, references = batch.texts
        for metric in metrics.values():
            metric.update(texts, references)
        scores = [hypotheses[0] for hypotheses in generated.scores]
        return [Prediction(*row) for row in zip(batch.index.tolist(), texts, sources, references, scores, strict=True)]

    def predict(self, model: nn.Module, inputs: Iterable[str], search: Search) -> Iterator[Prediction]:
        assert isinstance(model, EncoderDecoder)
        tokens = self.config["batch"]["eval_tokens"]
        return translate_stream(model, inputs, search, self._vocabularies(), tokens, self.device_of(model))

    def maps(self, model: nn.Module, count: int, folder: Path) -> list[Path]:
        assert isinstance(model, EncoderDecoder)
        corpus = self.corpora["validation"]
        sources, _ = corpus.texts(list(range(min(count, len(corpus)))))
        return draw_maps(model, sources, self._vocabularies(), folder, self.device_of(model))

    def _vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        assert self.vocabularies is not None, "prepare() or restore() comes first"
        return self.vocabularies
