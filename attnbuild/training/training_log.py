"""What is logged while training: loss, accuracy, learning rate and speed, every few updates."""

from __future__ import annotations

import logging
import time
from typing import Any

from lightning.pytorch import Callback

from attnbuild.training.tally import Tally

__all__ = ["TrainingLog"]

_log = logging.getLogger(__name__)


class TrainingLog(Callback):
    """Records training values every ``every`` updates and before each validation, and validation values.

    Args:
        every: updates between two records.

    Attributes:
        latest: the values last recorded of training, by name: "train/loss".
        tokens: tokens trained on so far, over all resumes.
        seconds: time it took, validation not counted.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.latest: dict[str, float] = {}
        self.latest_speed = 0.0
        self.unit = "tokens"
        self.tokens = 0.0
        self.seconds = 0.0
        self._since = time.monotonic()

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of training, validation not counted; 0 before the first record."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._since = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        between_updates = module.batches % trainer.accumulate_grad_batches == 0
        if between_updates and trainer.global_step % self.every == 0:
            self._record(trainer, module)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        # So a checkpoint, written after validation, never has half a record to remember.
        if trainer.state.fn == "fit":
            self._record(trainer, module)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn == "fit":
            module.record(module.results)
            self._since = time.monotonic()

    def _record(self, trainer: Any, module: Any) -> None:
        means = module.tally.means(module.sum_over_ranks, perplexity=module.task.writes == "text")
        if not means:
            return
        tokens = means.pop("tokens")
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        self._since = now
        self.tokens += tokens
        self.seconds += seconds
        module.tally = Tally(module.device)
        self.latest = {f"train/{name}": value for name, value in means.items()}
        self.latest["train/learning_rate"] = module.learning_rate
        self.unit = module.task.unit
        self.latest[f"train/{self.unit}_per_second"] = self.latest_speed = tokens / seconds
        module.record(self.latest)

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens = state_dict["tokens"]
        self.seconds = state_dict["seconds"]
