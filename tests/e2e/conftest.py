"""Trained runs that several tests use; each is made once, also when tests run in several processes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.e2e.commands import SMALL, only_run, run_command

#: The demo with a smaller model, fewer words and a schedule that ends: some 40 s on one core, BLEU about 75.
DEMO = (
    *("train", "experiment=demo", "data.train=6000", "data.validation=100", "data.test=100"),
    *("tokenizer.vocab_size=2000", "encoder.layers=1", "decoder.layers=1", "model.dropout=0.05"),
    *("optimizer.lr=0.005", "scheduler=linear", "scheduler.warmup=120", "trainer.max_steps=360"),
    *("validation.every=120", "average=best2"),
)

#: Long enough to be interrupted in its middle.
WHOLE = ("train", *SMALL, "trainer.max_steps=120", "trainer.log_every=1", "validation.every=20")


@pytest.fixture(scope="session")
def demo_words() -> tuple[str, ...]:
    """What was typed for ``demo_run``."""
    return DEMO


@pytest.fixture(scope="session")
def whole_words() -> tuple[str, ...]:
    """What was typed for ``whole_run``."""
    return WHOLE


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that translates well, moved away from where it was trained. Tests must not change it."""
    return _once(tmp_path_factory, "demo", lambda folder: _train(folder, DEMO))


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that nothing disturbed, moved away from where it was trained. Tests must not change it."""
    return _once(tmp_path_factory, "whole", lambda folder: _train(folder, WHOLE))


def _train(folder: Path, words: tuple[str, ...]) -> None:
    """Train in a folder of its own; the run folder then moves to ``folder``."""
    place = folder.with_name(f"{folder.name}-trained")
    place.mkdir()
    outcome = run_command(*words, cwd=place)
    assert outcome.code == 0, outcome.err
    only_run(place).rename(folder)
    shutil.rmtree(place)


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process to need it makes, under the temporary folder that all share."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / f"e2e-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            make(folder)
    return folder
