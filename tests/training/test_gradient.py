"""The gradient of an update is the mean over all its tokens, however they came together; of ranks: test_ranks_equal.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from attnbuild.training.module import Module
from attnbuild.training.trainer import build_trainer

Config = dict[str, Any]


def gradient(config: Config, rows: list[list[np.ndarray]], folder: Path, clip: float | None = None) -> torch.Tensor:
    """The gradient of one update, as the optimiser saw it, over given micro-batches of this rank."""
    from fake_task import FakeTask, pad

    from attnbuild.training.task import TaskPlace

    class Given(FakeTask):
        def train_loader(self, *, rank: int, world_size: int, start_step: int) -> Any:
            return DataLoader([pad(batch) for batch in rows], batch_size=None)

    torch.manual_seed(0)
    task = Given(TaskPlace(config, folder), dropout=0.0)
    config["trainer"] |= {"max_steps": 1, "accumulate": len(rows), "limit_eval_batches": 0, "clip": clip}
    module = Module(task, task.build_model(), config)
    build_trainer(config, folder).fit(module)
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def make_sequences(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(1, 11, length) for length in lengths]


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(2, 9), min_size=2, max_size=8), cut=st.integers(1, 7))
def test_accumulated_equals_one_batch(base_config: Config, tmp_path_factory: Any, lengths: list[int], cut: int) -> None:
    folder = tmp_path_factory.mktemp("gradient")
    rows = make_sequences(lengths)
    cut = min(cut, len(rows) - 1)
    parts = gradient(copy.deepcopy(base_config), [rows[:cut], rows[cut:]], folder)
    whole = gradient(copy.deepcopy(base_config), [rows], folder)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_clipping_comes_after_the_division(config: Config, tmp_path: Path) -> None:
    """The norm that is clipped is that of the mean gradient, not of the sum over tokens."""
    rows = make_sequences([9, 8, 7, 6])
    free = gradient(copy.deepcopy(config), [rows], tmp_path)
    norm = free.norm().item()
    loose = gradient(copy.deepcopy(config), [rows], tmp_path, clip=1.1 * norm)
    torch.testing.assert_close(loose, free, rtol=0, atol=0)
    tight = gradient(copy.deepcopy(config), [rows], tmp_path, clip=0.5 * norm)
    torch.testing.assert_close(tight, 0.5 * free, rtol=1e-4, atol=1e-7)


def test_dropout_of_a_batch_depends_on_seed_and_position_alone(config: Config, tmp_path: Path) -> None:
    from fake_task import FakeTask

    from attnbuild.training.task import TaskPlace

    task = FakeTask(TaskPlace(config, tmp_path))
    module = Module(task, task.build_model(), config)
    draws = {}
    for rank, batches in [(0, 3), (0, 4), (1, 3), (0, 3)]:
        module._trainer = type("Ranked", (), {"global_rank": rank})()  # all that is asked of it here
        module.batches = batches
        module.on_train_batch_start(None, 0)
        draw = torch.rand(()).item()
        assert draws.setdefault((rank, batches), draw) == draw
    assert len(set(draws.values())) == 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trains_in(config: Config, tmp_path: Path, precision: str) -> None:
    config["trainer"]["precision"] = precision
    assert torch.isfinite(gradient(config, [make_sequences([5, 4])], tmp_path)).all()
