"""Asked to stop: all processes at the same update, with a checkpoint of that update."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.training.fit import train
from attnbuild.training.run import RunFolder
from tests.training.program import PROGRAM

Config = dict[str, Any]

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def ranks_of(run: RunFolder) -> list[int]:
    """The ranks that train in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"attnbuild.training.rank" in words and str(run.path).encode() in words:
            found.append(int(path.parent.name))
    return sorted(found)


def last_step(run: RunFolder) -> int:
    lines = run.metrics_file.read_text().split("\n")[1:-1] if run.metrics_file.is_file() else []
    return int(lines[-1].partition(",")[0]) if lines else 0


def checkpoint(run: RunFolder) -> dict[str, Any]:
    return torch.load(run.last_checkpoint, weights_only=True)


def stop_in_the_middle(config: Config, run: RunFolder, step: int, *, only_one: bool) -> None:
    """Train until after a step and send SIGUSR1: to one of the ranks alone, or to the process that was typed."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(config), run.path])
    try:
        while last_step(run) < step:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(ranks_of(run)[-1] if only_one else process.pid, signal.SIGUSR1)
        assert process.wait(timeout=120) == 130
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def two(config: Config) -> Config:
    config["trainer"] |= {"devices": 2, "strategy": "ddp", "max_steps": 80}
    config["validation"]["every"] = 40
    config["task"]["seconds"] = 0.03
    return config


def test_one_of_two_ranks_is_asked_and_both_stop(two: Config, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    stop_in_the_middle(two, run, 45, only_one=True)
    assert ranks_of(run) == []
    assert run.read_summary()["status"] == "interrupted"
    assert 45 <= checkpoint(run)["global_step"] < 80, "the update at which it was asked, or one soon after it"


@pytest.mark.slow
def test_ranks_that_stopped_go_on_as_if_they_had_not(two: Config, tmp_path: Path) -> None:
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    stop_in_the_middle(two, stopped, 45, only_one=True)
    assert checkpoint(stopped)["global_step"] < 80
    train({**two, "resume": str(stopped.path)}, stopped, [])
    train(two, whole, [])
    torch.testing.assert_close(checkpoint(stopped)["state_dict"], checkpoint(whole)["state_dict"], rtol=0, atol=0)
    assert stopped.read_summary()["metrics"] == whole.read_summary()["metrics"]
    with whole.metrics_file.open() as first, stopped.metrics_file.open() as second:
        logged, again = (
            [row[:3] for row in csv.reader(file) if "per_second" not in row[1]] for file in (first, second)
        )
    assert again == logged


def test_one_process_is_asked_by_its_cluster(config: Config, tmp_path: Path) -> None:
    config["trainer"]["max_steps"] = 10**6
    config["validation"]["every"] = 40
    config["task"]["seconds"] = 0.02
    run = RunFolder(tmp_path / "run")
    stop_in_the_middle(config, run, 45, only_one=False)
    assert run.read_summary()["status"] == "interrupted"
    assert checkpoint(run)["global_step"] >= 45
