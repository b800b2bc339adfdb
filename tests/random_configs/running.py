"""One config from its check to a trained step and a few answers, as ``attnbuild train`` goes, without its folder."""

from __future__ import annotations

import functools
import json
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from attnbuild.cli.check import require_right
from attnbuild.errors import ConfigError
from attnbuild.training.checkpoint import build_task
from attnbuild.training.module import Module
from attnbuild.training.trainer import build_trainer

__all__ = ["SECONDS", "train_a_step"]

#: What no example may take; most take a tenth of a second, and compiling FlexAttention a minute on a busy machine.
SECONDS = 300

#: The installed plugins do not change between examples, and looking for them reads many files.
_PLUGINS = mock.patch("attnbuild.registry.entry_points", functools.cache(entry_points))

_READERS: dict[str, Any] = {}


def train_a_step(config: Mapping[str, Any], folder: Path) -> None:
    """Check, prepare, build, train a step, answer.

    Raises:
        AttnbuildError: the config is refused, or the user is told that training came to nothing.
        AssertionError: a weight or a score is no number, and nobody told.
        TimeoutError: it takes too long.
    """
    with _limit(), _quiet(), _PLUGINS:
        require_right(dict(config))
        torch.manual_seed(config["seed"])
        task = build_task(dict(config))
        # Readers keep what they made: examples with the same data share it.
        same_data = json.dumps([config["data"], config["task"]], sort_keys=True)
        task.reader = _READERS.setdefault(same_data, task.reader)
        task.prepare()
        model = task.build_model()
        misfits = task.misfits(model)
        if misfits:
            raise ConfigError(misfits)
        module = Module(task, model, dict(config))
        trainer = build_trainer(dict(config), folder)
        trainer.fit(module)
        assert trainer.global_step == config["trainer"]["max_steps"]
        broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        assert not broken, f"after a step that nobody complained of, no numbers: {broken}"
        trainer.test(module, verbose=False)
        assert module.predictions
        assert module.results["test/loss"] == module.results["test/loss"], "the loss is no number"


@contextmanager
def _limit() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says of each trainer."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "attnbuild")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
