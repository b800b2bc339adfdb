"""Two processes on the CPU, started as a user's are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from attnbuild.errors import AttnbuildError
from attnbuild.training.distributed import check_world, process_count
from attnbuild.training.fit import train
from attnbuild.training.run import RunFolder
from tests.training.program import PROGRAM

Config = dict[str, Any]


@pytest.fixture
def two(config: Config) -> Config:
    config["trainer"] |= {"devices": 2, "strategy": "ddp", "max_steps": 6}
    config["task"] = {"type": "fake", "dropout": 0.0}
    return config


def processes_of(run: RunFolder) -> list[int]:
    """The processes that have the run folder on their command line, other than this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(run.path).encode() in words and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def test_two_processes_train_the_model_of_one(two: Config, run: RunFolder, tmp_path: Path) -> None:
    summary = train(two, run, [])
    assert summary["status"] == "ok"
    predictions = [json.loads(line) for line in (run.path / "predictions-test.jsonl").open()]
    assert [prediction["index"] for prediction in predictions] == list(range(21))
    alone = RunFolder(tmp_path / "alone")
    two["trainer"]["devices"] = 1
    two["task"]["rows"] = 16
    assert train(two, alone, [])["metrics"] == pytest.approx(summary["metrics"], rel=1e-4)


@pytest.mark.slow
def test_a_rank_without_validation_examples_is_not_waited_for(two: Config, run: RunFolder) -> None:
    """The distributed wrapper shares running statistics with the first batch, which one rank does not get."""
    two["task"] |= {"held_out": 1, "running": True}
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(two), run.path])
    try:
        assert parent.wait(timeout=90) == 0
    finally:
        parent.terminate()
        parent.wait(timeout=60)
    assert run.read_summary()["status"] == "ok"


def test_a_rank_that_fails_ends_all_with_its_message(two: Config, run: RunFolder) -> None:
    two["task"]["fail_on_rank"] = 1
    with pytest.raises(AttnbuildError, match=r"rank 1: numbers.txt:7: is no number"):
        train(two, run, [])
    assert processes_of(run) == []
    assert run.read_summary()["status"] == "failed"
    assert run.read_summary()["error"] == "rank 1: numbers.txt:7: is no number"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.slow
def test_ctrl_c_leaves_no_process(two: Config, run: RunFolder) -> None:
    two["task"]["seconds"] = 0.1
    two["trainer"]["max_steps"] = 10**6
    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(two), run.path])
    while not run.last_checkpoint.exists():
        assert parent.poll() is None
        time.sleep(0.1)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=120) == 130
    assert processes_of(run) == []
    assert run.read_summary()["status"] == "interrupted"


def test_world_of_another_size_is_refused() -> None:
    check_world(1)
    with pytest.raises(RuntimeError, match="1 processes are connected, but the trainer counts on 2"):
        check_world(2)


def test_auto_is_one_process_on_the_cpu() -> None:
    assert process_count({"accelerator": "cpu", "devices": "auto"}) == 1
    assert process_count({"accelerator": "cpu", "devices": 3}) == 3
