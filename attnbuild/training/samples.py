"""What the model makes of a few examples: written, and drawn, after each validation."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback

from attnbuild.printable import printable
from attnbuild.training.run import RunFolder
from attnbuild.training.spread import spread
from attnbuild.training.task import Prediction

__all__ = ["Samples", "render", "some_of"]

_log = logging.getLogger(__name__)


class Samples(Callback):
    """Writes samples/step-NNNNNN.txt and redraws the attention maps after each validation.

    Args:
        run: the run folder.
        samples: how many examples are written, always the same ones.
        maps: for how many the attention is drawn.
    """

    def __init__(self, run: RunFolder, samples: int, maps: int) -> None:
        self.run = run
        self.samples = samples
        self.maps = maps

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        if self.samples:
            text = render(some_of(module.predictions, self.samples))
            self.run.write_text(f"samples/step-{trainer.global_step:06d}.txt", text)
            _log.info("samples at step %d:\n%s", trainer.global_step, text.rstrip())
        if self.maps:
            module.task.maps(module.model, self.maps, self.run.maps)


def some_of(predictions: Iterable[Prediction], count: int) -> list[Prediction]:
    """The predictions of a few examples from all over the split, in its order."""
    ordered = sorted(predictions, key=lambda prediction: prediction.index)
    return [ordered[place] for place in spread(count, len(ordered))]


def render(predictions: Iterable[Prediction]) -> str:
    """Predictions as text to read, one paragraph each."""
    paragraphs = []
    for prediction in predictions:
        lines = _named("input", prediction.source) if prediction.source else []
        lines += _named("prediction", prediction.text)
        if prediction.reference is not None:
            lines += _named("reference", prediction.reference)
        paragraphs.append("\n".join(lines) + "\n")
    return printable("\n".join(paragraphs))


def _named(name: str, text: str) -> list[str]:
    """The lines of a text, with its name before the first."""
    lines = text.splitlines() or [""]
    return [f"{name if number == 0 else '':11} {line}" for number, line in enumerate(lines)]
