"""Translation: one text in, one text out, scored by BLEU and chrF on raw references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval
from torch import Tensor

from attnbuild.data.batching import Batch
from attnbuild.data.sides.text import TOKENIZER_FILE, TextSide
from attnbuild.data.tokenizers.vocabulary import EOS, Vocabulary
from attnbuild.model import EncoderDecoder
from attnbuild.registry import register
from attnbuild.training.supervised import Answer
from attnbuild.training.task import TaskPlace
from attnbuild.training.writing import WritingTask

if TYPE_CHECKING:
    from torchmetrics import Metric

__all__ = ["Translation"]

_APART = ("tokenizer.source.json", "tokenizer.target.json")


@register("task", "translation")
class Translation(WritingTask):
    """Encode a source text, decode its translation (Sutskever et al. 2014; Bahdanau et al. 2015).

    Args:
        label_smoothing: share of the target probability spread over the vocabulary (Szegedy et al. 2016), in training.
    """

    monitor = "bleu"
    answers = "text"

    def __init__(self, place: TaskPlace, *, label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.1) -> None:
        super().__init__(place, label_smoothing)

    def sides(self, artifacts: Mapping[str, str] | None) -> tuple[TextSide, TextSide]:
        if artifacts is None:
            source, target = self.vocabularies("source", "target")
        elif TOKENIZER_FILE in artifacts:
            source = target = Vocabulary.from_json(artifacts[TOKENIZER_FILE])
        else:
            source, target = (Vocabulary.from_json(artifacts[file]) for file in _APART)
        files = (TOKENIZER_FILE, TOKENIZER_FILE) if source is target else _APART
        return TextSide(source, file=files[0]), TextSide(target, begin=True, file=files[1])

    def metrics(self) -> dict[str, Metric]:
        from attnbuild.training.metrics import ChrF, SacreBLEU

        return {"bleu": SacreBLEU(), "chrf": ChrF()}

    def update(self, metrics: dict[str, Metric], answers: list[Answer], batch: Batch) -> None:
        assert batch.texts is not None
        for metric in metrics.values():
            metric.update([answer.text for answer in answers], batch.texts[1])

    def draw(
        self, model: EncoderDecoder, inputs: dict[int, Any], answers: list[Answer], sources: Tensor, folder: Path
    ) -> list[Path]:
        """Which source token each target token looked at (Bahdanau et al. 2015, fig. 3)."""
        from attnbuild.drawing.alignment import draw_alignment

        weights = self.attended(model, model.encode(sources), answers)
        if weights is None:
            return []
        files: list[Path] = []
        for (number, source), answer, looked_at in zip(inputs.items(), answers, weights, strict=True):
            files += draw_alignment(
                looked_at,
                self.source_side.labels(source)[: looked_at.shape[-1]],  # an encoder may read the beginning alone
                self.vocabulary.tokens([*answer.tokens, EOS]),
                folder / f"sentence-{number}.png",
                title=answer.text,
            )
        return files
