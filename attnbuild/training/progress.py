"""What is to be seen while training: a bar on a terminal, lines in a log, and a file for who watches many runs."""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback

from attnbuild.training.logs import console
from attnbuild.training.saving import Checkpoints
from attnbuild.training.training_log import TrainingLog

__all__ = ["ProgressBar", "ProgressFile", "ProgressLines", "progress", "render_values"]

_log = logging.getLogger(__name__)

#: Records of training for each line about it, where there is no bar.
_RECORDS_A_LINE = 5


def progress(max_steps: int, training: TrainingLog, checkpoints: Checkpoints) -> list[Callback]:
    """The callbacks that show progress: a file and lines always, since log.txt has them, and a bar on a terminal."""
    kinds = [ProgressFile, ProgressLines, *([ProgressBar] if console().is_terminal else [])]
    return [kind(max_steps, training, checkpoints) for kind in kinds]


def render_values(values: dict[str, float]) -> str:
    """Values for a line in the log, without the split in their names."""
    return "  ".join(f"{name.rpartition('/')[2]} {value:.3f}" for name, value in values.items())


class _Progress(Callback):
    """What both need to know.

    Args:
        max_steps: updates of the whole run.
        training: where the values of training come from.
        checkpoints: where the best score so far comes from.
    """

    def __init__(self, max_steps: int, training: TrainingLog, checkpoints: Checkpoints) -> None:
        self.max_steps = max_steps
        self.training = training
        self.checkpoints = checkpoints


class ProgressLines(_Progress):
    """One line for each validation and, between them, one every few records."""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        between_updates = module.batches % trainer.accumulate_grad_batches == 0
        if between_updates and trainer.global_step % (_RECORDS_A_LINE * self.training.every) == 0:
            latest = self.training.latest
            _log.info(
                "step %d/%d  loss %.3f  accuracy %.3f  learning rate %.2e  %.0f %s/s",
                trainer.global_step,
                self.max_steps,
                latest["train/loss"],
                latest["train/accuracy"],
                latest["train/learning_rate"],
                self.training.latest_speed,
                self.training.unit,
            )

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        values = render_values(module.results)
        best = self.checkpoints.best
        before = f"  (best before: {best['score']:.3f} at step {best['step']})" if best else ""
        _log.info("step %d/%d  validation: %s%s", trainer.global_step, self.max_steps, values, before)


class ProgressFile(_Progress):
    """``progress.json`` of the run folder, written at most once a second, and after each validation."""

    def __init__(self, max_steps: int, training: TrainingLog, checkpoints: Checkpoints) -> None:
        super().__init__(max_steps, training, checkpoints)
        self.validations: list[tuple[int, float]] = []
        self._written = -math.inf

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_global_zero and time.monotonic() - self._written >= 1.0:
            self._write(trainer)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        score = module.results[self.checkpoints.monitor]
        if math.isfinite(score):
            self.validations.append((trainer.global_step, score))
        if trainer.is_global_zero:
            self._write(trainer)

    def _write(self, trainer: Any) -> None:
        self._written = time.monotonic()
        progress = {
            "step": trainer.global_step,
            "max_steps": self.max_steps,
            "values": self.training.latest,
            "speed": self.training.latest_speed,
            "unit": self.training.unit,
            "monitor": self.checkpoints.monitor,
            "validations": self.validations,
        }
        self.checkpoints.run.write_text("progress.json", json.dumps(progress) + "\n")

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.validations = [(step, score) for step, score in state_dict["validations"]]


class ProgressBar(_Progress):
    """A bar over all updates with loss, best validation score and tokens/s."""

    def __init__(self, max_steps: int, training: TrainingLog, checkpoints: Checkpoints) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(max_steps, training, checkpoints)
        self.bar = Progress(
            TextColumn("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=console(),
            transient=True,
        )

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.line = self.bar.add_task("training", total=self.max_steps, completed=trainer.global_step, values="")
        self.bar.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.bar.update(self.line, completed=trainer.global_step, values=self._values())

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._describe(trainer, "validating")

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self._describe(trainer, "training")

    def _describe(self, trainer: Any, description: str) -> None:
        if trainer.state.fn == "fit":
            self.bar.update(self.line, description=description, values=self._values())

    def _values(self) -> str:
        latest, best = self.training.latest, self.checkpoints.best
        values = []
        if latest:
            values.append(f"loss {latest['train/loss']:.3f}")
        if best:
            values.append(f"{self.checkpoints.monitor.split('/')[1]} {best['score']:.2f}")
        if latest:
            values.append(f"{self.training.latest_speed:.0f} {self.training.unit}/s")
        return "  ".join(values)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self.bar.stop()
