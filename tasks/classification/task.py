"""Classification: a text, two texts or an image in, a label or several out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.data.batching import Batch
from attnbuild.data.sides.labels import LabelsSide
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers.vocabulary import UNK
from attnbuild.errors import Problem
from attnbuild.model import EncoderDecoder
from attnbuild.registry import register
from attnbuild.training.supervised import Answer, SupervisedTask, picture_file
from attnbuild.training.task import Loss, TaskPlace

if TYPE_CHECKING:
    from torchmetrics import Metric

    from attnbuild.data.readers.base import Reader

__all__ = ["Classification"]

#: The probability from which on a label is given, where there may be several.
_GIVEN = 0.5


@register("task", "classification")
class Classification(SupervisedTask):
    """Encode a text or an image, pool it, tell its label.

    Args:
        multi_label: an example may have any number of labels: each is decided by itself.
        label_smoothing: share of the probability spread over all labels (Szegedy et al. 2016), in training.
        class_weights: balanced: labels count in the training loss as if they were equally frequent, and, where there
            may be several, a label's presence as much as its absence; none: as they are.
        word_dropout: texts only: chance that a token is read as unknown, in training (Iyyer et al. 2015, section 3.1).
        mixup: images only: parameter alpha of mixup (Zhang et al. 2018), which trains on mixtures of two; 0 is none.
        top_k: k of the metric top-k accuracy, where there are more labels than k.
    """

    writes = "labels"
    unit = "examples"
    answers = "labels"
    modalities = ("text", "image")

    def __init__(
        self,
        place: TaskPlace,
        *,
        multi_label: bool = False,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
        word_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        mixup: Annotated[float, Ge(0)] = 0.0,
        top_k: Annotated[int, Ge(2)] = 5,
    ) -> None:
        super().__init__(place)
        self.monitor = "f1_micro" if multi_label else "accuracy"  # to have all labels right is a rough measure
        self.multi_label, self.label_smoothing = multi_label, label_smoothing
        self.class_weights, self.word_dropout, self.mixup = class_weights, word_dropout, mixup
        self.top_k = top_k
        self._weights: Tensor | None = None

    def check(self) -> list[Problem]:
        problems = super().check()
        if self.mixup and self.reads == "text":
            problems.append(Problem("task.mixup", "mixes images, and this data is text: set it to 0"))
        if self.word_dropout and self.reads == "image":
            problems.append(Problem("task.word_dropout", "drops words, and this data is images: set it to 0"))
        for path, section in self.searches().items():
            how = "search=none" if path == "search" else f"{path}.type=none"
            if section["type"] != "none":
                problems.append(Problem(f"{path}.type", f"labels are not searched for: set {how}"))
        return problems

    def sides(self, artifacts: Mapping[str, str] | None) -> tuple[Any, LabelsSide]:
        if artifacts is not None:
            labels = LabelsSide.from_artifacts(dict(artifacts))
        else:
            values = (row["target"] for row in self.reader.read("train"))
            labels = LabelsSide.of(values, multi_label=self.multi_label)
        if self.reads == "image":
            return self.image_side(artifacts), labels
        return TextSide(self.vocabulary_of("source", artifacts)), labels

    @cached_property
    def reader(self) -> Reader:
        reader = super().reader
        reader.keeps_unlabelled = self.multi_label
        return reader

    # Loss

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        assert isinstance(model, EncoderDecoder)
        source, target = self.augmented(model, batch.source), self._as_probabilities(batch.target)
        if self.word_dropout and model.training:
            source = _drop_words(source, self.word_dropout)
        if self.mixup and model.training:
            source, target = _mix(source, target, self.mixup)
        decoded = model.decode(source)
        losses = self._losses(decoded.logits, target, model.training)
        terms = [choice.loss(-losses) for choice in decoded.choices]
        weight = self._counts(target) if model.training else torch.ones_like(losses)
        right = self._right(decoded.logits.detach(), target) * weight
        return Loss(losses.sum(), weight.sum(), right.sum(), torch.stack(terms).sum() if terms else None)

    def _as_probabilities(self, target: Tensor) -> Tensor:
        """(B,) -> (B, labels); what may have several labels is so already."""
        return target if self.multi_label else F.one_hot(target, len(self.labels)).float()

    def _losses(self, logits: Tensor, target: Tensor, training: bool) -> Tensor:
        """(B,): cross-entropy with the target's probabilities, summed over the labels where there may be several."""
        logits = logits.float()
        smoothing = self.label_smoothing if training else 0.0
        if self.multi_label:
            target = target * (1 - smoothing) + smoothing / 2
            balance = self._balance(logits.device) if training and self.class_weights == "balanced" else None
            losses = F.binary_cross_entropy_with_logits(logits, target, pos_weight=balance, reduction="none")
            return losses.sum(dim=1)
        if not training or self.class_weights == "none":
            return F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        # Of a mixture each label counts by its own weight; for one label the target stays as it is.
        counts = self._counts(target)
        shares = target * self._balance(target.device) / counts.unsqueeze(1)
        return counts * F.cross_entropy(logits, shares, label_smoothing=smoothing, reduction="none")

    def _counts(self, target: Tensor) -> Tensor:
        """(B,): how much each example counts in training; where there may be several labels, all alike."""
        if self.multi_label or self.class_weights == "none":
            return target.new_ones(len(target))
        return target @ self._balance(target.device)

    def _balance(self, device: torch.device) -> Tensor:
        """(labels,): examples over labels times those of the label, so that the mean over the examples is 1.

        Where there may be several labels: examples without the label over those with it. Labels all of whose examples
        were left out as too long are none.
        """
        if self._weights is None:
            frequency = self._frequencies("train")
            counts = torch.zeros(len(self.labels), dtype=torch.float32)
            for owned, its in frequency.items():
                counts[list(owned)] += its
            if self.multi_label:
                weights = (frequency.total() - counts) / counts
                self._weights = weights.masked_fill((counts == 0) | (counts == frequency.total()), 1.0)
            else:
                self._weights = (counts.sum() / (counts.count_nonzero() * counts)).masked_fill(counts == 0, 0.0)
        return self._weights.to(device)

    def _right(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,): whether the label is right; all of them where there may be several."""
        if self.multi_label:
            return ((logits.sigmoid() > _GIVEN) == (target > _GIVEN)).all(dim=1)
        return logits.argmax(dim=1) == target.argmax(dim=1)

    # Answers

    @property
    def labels(self) -> list[str]:
        """The names of the labels, in the order of the model's outputs."""
        return self.target_side.names

    def answer(self, model: EncoderDecoder, source: Tensor, index: Tensor, search: Any) -> list[Answer]:
        logits = model.decode(source).logits.float()
        return [self._answer(row) for row in (logits.sigmoid() if self.multi_label else logits.softmax(dim=1)).cpu()]

    def _answer(self, probabilities: Tensor) -> Answer:
        shares, order = probabilities.sort(descending=True, stable=True)
        ranked = tuple(
            (self.labels[place], share) for place, share in zip(order.tolist(), shares.tolist(), strict=True)
        )
        given = [name for name, share in ranked if share > _GIVEN] if self.multi_label else [ranked[0][0]]
        return Answer("\n".join(given), ranked[0][1], ranked, probabilities=probabilities)

    def metrics(self) -> dict[str, Metric]:
        from attnbuild.training.metrics import ConfusionMatrix, PerClass, classification_metrics

        metrics = classification_metrics(len(self.labels), self.multi_label, self.top_k)
        if not self.multi_label:
            metrics["confusion"] = ConfusionMatrix(len(self.labels))
        return {**metrics, "per_class": PerClass(len(self.labels), self.multi_label)}

    def update(self, metrics: dict[str, Metric], answers: list[Answer], batch: Batch) -> None:
        probabilities = torch.stack([answer.probabilities for answer in answers if answer.probabilities is not None])
        for metric in metrics.values():
            metric.update(probabilities.to(batch.target.device), batch.target.long())

    def baselines(self, split: str) -> dict[str, float]:
        """What the most frequent training label, or set of labels, reaches."""
        (constant, _), scored = self._frequencies("train").most_common(1)[0], self._frequencies(split)
        return {"accuracy": scored[constant] / scored.total()}

    def _frequencies(self, split: str) -> Counter[tuple[int, ...]]:
        """How many examples of a split have which label, or set of labels, by their numbers in order."""
        corpus = self.corpora[split]
        return Counter(tuple(sorted(set(row.tolist()))) for row in corpus.rows(range(len(corpus)))[1])

    # Pictures

    def report(self, tables: dict[str, Any], folder: Path) -> list[Path]:
        """Which labels are taken for which, and how each label does."""
        from attnbuild.drawing.confusion import draw_confusion, per_class_table

        files = []
        if "confusion" in tables:
            files.append(folder / "confusion.png")
            draw_confusion(tables["confusion"].cpu().numpy(), self.labels, files[-1])
        files.append(folder / "per_class.md")
        scores = (column.tolist() for column in tables["per_class"])
        files[-1].write_text(per_class_table(self.labels, *scores), encoding="utf-8")
        return files

    def draw(
        self, model: EncoderDecoder, inputs: dict[int, Any], answers: list[Answer], sources: Tensor, folder: Path
    ) -> list[Path]:
        """The words coloured by what the pooling attended to, or the image under its heatmap."""
        memory = model.encode(sources)
        weights = model.decoder(memory, need_weights=True).weights
        if weights is None:
            return []
        looked_at = weights.squeeze(2).float().cpu().numpy()  # (B, heads, S)
        if self.reads == "text":
            return self._draw_words(inputs, answers, looked_at, folder)
        return self._draw_images(inputs, answers, looked_at.mean(axis=1), memory.grid, folder)

    def _draw_words(self, inputs: dict[int, Any], answers: list[Answer], weights: Any, folder: Path) -> list[Path]:
        from attnbuild.drawing.words import draw_words

        files = []
        for (number, value), answer, looked_at in zip(inputs.items(), answers, weights, strict=True):
            tokens = self.source_side.labels(value)[: weights.shape[-1]]  # an encoder may read the beginning alone
            files.append(folder / f"text-{number}.png")
            draw_words(tokens, looked_at[:, : len(tokens)], files[-1], _title(answer))
        return files

    def _draw_images(
        self,
        inputs: dict[int, Any],
        answers: list[Answer],
        weights: Any,
        grid: tuple[int, int] | None,
        folder: Path,
    ) -> list[Path]:
        from attnbuild.drawing.heatmaps import draw_overlay

        if grid is None:
            return []
        files = []
        for (number, picture), answer, looked_at in zip(inputs.items(), answers, weights, strict=True):
            files.append(picture_file(folder, number, picture))
            draw_overlay(self.shown(picture), looked_at.reshape(grid), files[-1], _title(answer))
        return files


def _title(answer: Answer) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in answer.n_best[:3])


def _drop_words(source: Tensor, chance: float) -> Tensor:
    """Token ids with some of them unknown; marks such as padding and the end stay."""
    dropped = (torch.rand(source.shape, device=source.device) < chance) & (source > UNK)
    return source.masked_fill(dropped, UNK)


def _mix(source: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """lambda x_i + (1 - lambda) x_j with lambda from Beta(alpha, alpha), one a batch (Zhang et al. 2018)."""
    # In half precision, which may be the default, nothing can be drawn; and a number above 0 must stay so.
    both = torch.tensor(alpha, dtype=torch.float32).clamp(min=torch.finfo(torch.float32).tiny)
    share = float(torch.distributions.Beta(both, both).sample())
    other = torch.randperm(len(source), device=source.device)
    pixels = source.float() / 255 if source.dtype == torch.uint8 else source
    return share * pixels + (1 - share) * pixels[other], share * target + (1 - share) * target[other]
