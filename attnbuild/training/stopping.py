"""When training ends: after its steps or minutes, or when someone asks it to.

Whatever ends it regularly, the last step is validated and saved. Ctrl-C and SIGTERM wait for the
update under way, save a checkpoint to go on from, and then stop; while validation runs, and with
several processes, they stop at once and the checkpoint of the validation before remains.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

from lightning.pytorch import Callback

from attnbuild.training.saving import Checkpoints

__all__ = ["Stopping"]

_log = logging.getLogger(__name__)


class Stopping(Callback):
    """Ends training.

    Args:
        checkpoints: saves the state on an interruption.
        every: updates between validations.
        max_steps: updates of the whole run.
        max_minutes: wall time of training, over all resumes; None is no limit.
    """

    def __init__(self, checkpoints: Checkpoints, *, every: int, max_steps: int, max_minutes: float | None) -> None:
        self.checkpoints = checkpoints
        self.every = every
        self.max_steps = max_steps
        self.max_minutes = max_minutes
        self.earlier = 0.0
        self.started = time.monotonic()
        self.interrupted = False
        self._handlers: dict[int, Any] = {}

    @property
    def seconds(self) -> float:
        """Wall time of training until now, over all resumes."""
        return self.earlier + time.monotonic() - self.started

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.started = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)
        self._at_once = trainer.world_size > 1

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.interrupted:  # since the last checkpoint was saved, nothing has changed
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.batches % trainer.accumulate_grad_batches:
            return
        if trainer.global_step >= self.max_steps or self._time_is_up(trainer):
            trainer.should_stop = True  # Lightning validates once more when it sees this
        validation_is_next = trainer.should_stop or trainer.global_step % self.every == 0
        if self.interrupted and not validation_is_next:
            _log.info("interrupted: saving %s", self.checkpoints.run.last_checkpoint)
            self.checkpoints.save_last(trainer)
            raise KeyboardInterrupt

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        if self.interrupted:
            raise KeyboardInterrupt

    def _time_is_up(self, trainer: Any) -> bool:
        if self.max_minutes is None:
            return False
        # Clocks differ between processes, and all must take the same decision.
        return trainer.strategy.reduce_boolean_decision(self.seconds >= 60 * self.max_minutes, all=False)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interrupted or self._at_once:
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier = state_dict["seconds"]
