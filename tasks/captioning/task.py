"""Captioning: an image in, a sentence out, scored against all its references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval
from torch import Tensor

from attnbuild.data.batching import Batch
from attnbuild.data.sides.captions import CaptionsSide
from attnbuild.data.sides.images import ImageSide
from attnbuild.decoders.base import Decoded
from attnbuild.errors import Problem
from attnbuild.model import EncoderDecoder
from attnbuild.places import resolve_places
from attnbuild.registry import register
from attnbuild.training.supervised import Answer, picture_file
from attnbuild.training.task import TaskPlace
from attnbuild.training.writing import WritingTask

if TYPE_CHECKING:
    from torchmetrics import Metric

    from attnbuild.data.corpus import Corpus

__all__ = ["Captioning"]

#: The place whose weights the regulariser reads and the pictures show.
_PLACE = "decoder.cross_attention"

#: The most frequent training captions, of which the best one is the constant caption.
_CANDIDATES = 20


@register("task", "captioning")
class Captioning(WritingTask):
    """Encode an image, decode a description of it (Xu et al. 2015, "Show, Attend and Tell").

    With doubly_stochastic = lambda > 0 the attention is urged to look at every cell alike over the whole
    caption: lambda sum_i (tau - sum_t alpha_ti)^2 is added to the loss of each caption (equation 14, where tau
    is 1). The weights are those of the last layer's cross-attention, averaged over heads.

    Args:
        label_smoothing: share of the target probability spread over the vocabulary, in training.
        doubly_stochastic: lambda, the weight of the regulariser; 0 is none.
        tau: attention that each cell should get in all: a number, 1 in the paper, or auto: the length of the
            caption over the number of cells, since captions are shorter than the grid.
    """

    monitor = "bleu4"
    answers = "captions"
    modalities = ("image",)

    def __init__(
        self,
        place: TaskPlace,
        *,
        label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        doubly_stochastic: Annotated[float, Ge(0)] = 0.0,
        tau: Annotated[float, Ge(0)] | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(place, label_smoothing)
        self.doubly_stochastic, self.tau = doubly_stochastic, tau

    def check(self) -> list[Problem]:
        choice = resolve_places(self.config).choices.get(_PLACE)
        problems = super().check()
        for spec in (choice.spec, *choice.by_layer.values()) if self.doubly_stochastic and choice is not None else ():
            able = spec.capabilities
            why = (
                "gives no weights" if able.weights == "none" else "draws its weights" if not able.differentiable else ""
            )
            if why:
                name = spec.preset or spec.core.name
                message = f"needs weights with a gradient, and {name!r} at {_PLACE} {why}: set it to 0"
                problems.append(Problem("task.doubly_stochastic", message))
        return problems

    def sides(self, artifacts: Mapping[str, str] | None) -> tuple[ImageSide, CaptionsSide]:
        return self.image_side(artifacts), CaptionsSide(self.vocabulary_of("target", artifacts), begin=True)

    def decode(self, model: EncoderDecoder, batch: Batch) -> Decoded:
        source = self.augmented(model, batch.source)
        need_weights = model.training and self.doubly_stochastic > 0
        return model.decode(source, batch.target[:, :-1], need_weights=need_weights)

    def regularisers(self, decoded: Decoded, real: Tensor) -> list[Tensor]:
        if decoded.weights is None:
            return []
        seen = (decoded.weights.mean(dim=1) * real.unsqueeze(-1)).sum(dim=1)  # (B, cells)
        due = real.sum(dim=1, keepdim=True) / seen.shape[1] if self.tau == "auto" else self.tau
        return [self.doubly_stochastic * (due - seen).square().sum()]

    def metrics(self) -> dict[str, Metric]:
        from attnbuild.training.metrics import caption_metrics

        return caption_metrics()

    def update(self, metrics: dict[str, Metric], answers: list[Answer], batch: Batch) -> None:
        assert batch.texts is not None
        references = [text.splitlines() for text in batch.texts[1]]
        for metric in metrics.values():
            metric.update([answer.text for answer in answers], references)

    def baselines(self, split: str) -> dict[str, float]:
        """One caption for all images: of the most frequent in training, the one that the monitor likes best here."""
        references = _references(self.corpora[split])
        train = Counter(caption for image in _references(self.corpora["train"]) for caption in image)

        def score(caption: str, *names: str) -> dict[str, float]:
            metrics = {name: metric for name, metric in self.metrics().items() if name in names}
            for metric in metrics.values():
                metric.distributed_available_fn = _no_others
                metric.update([caption] * len(references), references)
            return {name: float(metric.compute()) for name, metric in metrics.items()}

        candidates = [caption for caption, _ in train.most_common(_CANDIDATES)]
        best = max(candidates, key=lambda caption: score(caption, self.monitor)[self.monitor])
        return score(best, *self.metrics())

    def draw(
        self, model: EncoderDecoder, inputs: dict[int, Any], answers: list[Answer], sources: Tensor, folder: Path
    ) -> list[Path]:
        """The image with one heatmap for each word (Xu et al. 2015, fig. 3)."""
        from attnbuild.drawing.heatmaps import draw_heatmaps

        memory = model.encode(sources)
        weights = self.attended(model, memory, answers)
        if weights is None or memory.grid is None:
            return []
        files = []
        for (number, picture), answer, looked_at in zip(inputs.items(), answers, weights, strict=True):
            words, maps = _by_word(self.vocabulary.tokens(answer.tokens), looked_at.mean(axis=0)[:-1])
            path = picture_file(folder, number, picture)
            draw_heatmaps(self.shown(picture), maps.reshape(-1, *memory.grid), words, path, answer.text)
            files.append(path)
        return files


def _no_others() -> bool:
    """For metrics that one process computes while the others do something else: there is nobody to gather from."""
    return False


def _references(corpus: Corpus) -> list[list[str]]:
    return [text.splitlines() for text in corpus.texts(range(len(corpus)))[1]]


def _by_word(tokens: list[str], weights: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Tokens joined to words, with the mean of their weights: (T, S) -> (words, S); a word starts at a ▁."""
    starts = [place for place, token in enumerate(tokens) if place == 0 or token.startswith("▁")]
    bounds = list(pairwise([*starts, len(tokens)]))
    words = ["".join(tokens[first:last]).replace("▁", "") for first, last in bounds]
    return words, np.array([weights[first:last].mean(axis=0) for first, last in bounds]).reshape(-1, weights.shape[1])
