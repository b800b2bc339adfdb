"""Trained runs that several tests use; each is made once, also when tests run in several processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from tests.e2e.commands import SMALL, only_run, run_command

#: The demo with a smaller model, fewer words and a schedule that ends: some 40 s on one core, BLEU about 75.
DEMO = (
    *("experiment=demo", "data.train=6000", "data.validation=100", "data.test=100", "tokenizer.vocab_size=2000"),
    *("encoder.layers=1", "decoder.layers=1", "model.dropout=0.05", "optimizer.lr=0.005", "scheduler=linear"),
    *("scheduler.warmup=120", "trainer.max_steps=360", "validation.every=120"),
)

#: Long enough to be interrupted in its middle.
WHOLE = (*SMALL, "trainer.max_steps=120", "trainer.log_every=1", "validation.every=20")


@pytest.fixture(scope="session")
def demo_words() -> tuple[str, ...]:
    """What was typed after ``train`` for ``demo_run``."""
    return DEMO


@pytest.fixture(scope="session")
def whole_words() -> tuple[str, ...]:
    """What was typed after ``train`` for ``whole_run``."""
    return WHOLE


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that translates well, moved away from where it was trained. Tests must not change it."""
    return _train_once(tmp_path_factory, "demo", DEMO)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that nothing disturbed, moved away from where it was trained. Tests must not change it."""
    return _train_once(tmp_path_factory, "whole", WHOLE)


def _train_once(factory: pytest.TempPathFactory, name: str, words: tuple[str, ...]) -> Path:
    """Train where no process of the tests has yet; the run folder then moves to where all find it."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / f"e2e-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            place = factory.mktemp(name)
            outcome = run_command("train", *words, cwd=place)
            assert outcome.code == 0, outcome.err
            only_run(place).rename(folder)
    return folder
