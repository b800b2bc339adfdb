"""When training ends: after its steps or minutes, or when someone asks it to.

Whatever ends it regularly, the last step is validated and saved. Ctrl-C, SIGTERM and SIGUSR1, the word of a
cluster that the machine is wanted back soon, wait for the update under way, save a checkpoint to go on
from, and then stop. One process stops within a validation at once, and the checkpoint of the validation
before remains; after SIGUSR1 there is time, and the validation is finished. Several processes cannot agree
within a validation, and always finish it. Asked a second time, some seconds later, a process stops where it is.

Several processes must stop at the same update, though signals and clocks reach them at different times:
about once a second they tell each other whether anyone wants to stop, and how much of the time has gone by.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Any

import torch
from lightning.pytorch import Callback

from attnbuild.training.saving import Checkpoints

__all__ = ["Stopping"]

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

#: Seconds in which being asked again is no second thought: who starts processes hands on what they heard themselves.
_SAME_WORD = 2.0

#: Seconds and updates between two times that several processes tell each other whether to stop.
_AGREE_EVERY, _MOST_UPDATES = 1.0, 100


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
        self.at_once = False
        self._stops = False
        self._asked = 0.0
        self._several = False
        self._spent = 0.0
        self._validated = False
        self._handlers: dict[int, Any] = {}

    @property
    def seconds(self) -> float:
        """Wall time of training until now, over all resumes."""
        return self.earlier + time.monotonic() - self.started

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.started = time.monotonic()
        self._several = trainer.world_size > 1
        self._last_agreed, self._agreed_at = trainer.global_step, self.started
        self._next_agreed = trainer.global_step + 1
        module.time_spent = self._spent = self._share_of_time(self.earlier)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_signal)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self._stops or (self.interrupted and self._validated and not self._several):
            raise KeyboardInterrupt  # since the last checkpoint was saved, nothing has changed
        self._validated = False

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if module.batches % trainer.accumulate_grad_batches:
            return
        module.time_spent = self._agree(trainer)
        time_is_up = module.time_spent >= 1
        if trainer.global_step >= self.max_steps or time_is_up:
            trainer.should_stop = True  # Lightning validates once more when it sees this
        validation_is_next = trainer.should_stop or trainer.global_step % self.every == 0
        if self._stops and not validation_is_next:
            _log.info("interrupted: saving %s", self.checkpoints.run.last_checkpoint)
            self.checkpoints.save_last(trainer)
            raise KeyboardInterrupt

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        if self.at_once:
            raise KeyboardInterrupt

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn == "fit":
            self._validated = True
            self._agree(trainer, now=True)

    def _agree(self, trainer: Any, now: bool = False) -> float:
        """The share of the time that has gone by; ``_stops`` is then whether someone was asked to stop.

        Both are alike in all processes.

        Args:
            trainer: of this process.
            now: do not wait until it is time to.
        """
        spent = self._share_of_time(self.seconds)
        if not self._several:
            self._stops = self.interrupted
            return spent
        step = trainer.global_step
        if step < self._next_agreed and not now:
            return self._spent
        pace = (time.monotonic() - self._agreed_at) / max(1, step - self._last_agreed)
        own = torch.tensor([self.interrupted, spent, pace], device=trainer.strategy.root_device)
        stops, self._spent, pace = trainer.strategy.reduce(own, reduce_op="max").tolist()
        self._stops = bool(stops)
        self._last_agreed, self._agreed_at = step, time.monotonic()
        # Of the slowest: all reckon with one pace, and so come to the same update.
        self._next_agreed = step + min(_MOST_UPDATES, max(1, int(_AGREE_EVERY / max(pace, 1e-9))))
        return self._spent

    def _share_of_time(self, seconds: float) -> float:
        return seconds / (60 * self.max_minutes) if self.max_minutes else 0.0

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.interrupted:
            if time.monotonic() - self._asked > _SAME_WORD:
                raise KeyboardInterrupt
            return
        self.interrupted, self._asked = True, time.monotonic()
        self.at_once = number != signal.SIGUSR1 and not self._several

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._restore_handlers()
        if self._stops:  # asked to, while the last update was validated
            raise KeyboardInterrupt

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
