"""A small config, and the fake task as a plugin for this process and those it starts."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnbuild.registry import load_plugins
from attnbuild.training.run import RunFolder

HERE = Path(__file__).parent

CONFIG: dict[str, Any] = {
    "task": {"type": "fake"},
    "search": {"type": "greedy"},
    "validation": {"every": 4, "search": {"type": "greedy"}, "samples": 2, "maps": 0},
    "optimizer": {"type": "adamw", "lr": 0.02},
    "scheduler": {"type": "inverse_sqrt", "warmup": 3},
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "strategy": "auto",
        "precision": "32-true",
        "max_steps": 12,
        "max_minutes": None,
        "accumulate": 1,
        "clip": 1.0,
        "log_every": 1,
        "threads": None,
        "limit_eval_batches": None,
        "overfit_batches": 0,
        "profiler": None,
    },
    "callbacks": {},
    "logger": {"csv": {}},
    "average": "none",
    "seed": 1,
    "init_from": None,
    "resume": None,
    "plugins": ["fake_task"],
}


@pytest.fixture(scope="session", autouse=True)
def _plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("ATTNBUILD_CACHE", str(tmp_path_factory.mktemp("cache")))
        load_plugins(["fake_task"])
        yield


@pytest.fixture(scope="session")
def base_config() -> dict[str, Any]:
    """The config that tests start from; to be copied, not changed."""
    return CONFIG


@pytest.fixture
def config(base_config: dict[str, Any]) -> dict[str, Any]:
    """A config of its own for each test."""
    return copy.deepcopy(base_config)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A folder for one run, not made yet."""
    return RunFolder(tmp_path / "run")
