"""Ctrl-C and ``kill -9``: the run goes on as if nothing had happened."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

import attnbuild
from tests.e2e.commands import PATIENCE, only_run, run_command, start_command

#: Half-way from one validation, and so checkpoint, to the next.
STEP, LAST_VALIDATION = 30, 20


def test_ctrl_c(whole_run: Path, whole_words: tuple[str, ...], tmp_path: Path) -> None:
    code, said = stop(signal.SIGINT, whole_words, tmp_path)
    assert code == 130
    assert said[-1] == "interrupted"
    assert not [line for line in said if "Traceback" in line]
    run = only_run(tmp_path)
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    last = attnbuild.load(run / "checkpoints" / "last.ckpt")
    assert sum(parameter.numel() for parameter in last.model.parameters()) > 0
    # An interrupt within a validation keeps the checkpoint of the validation before.
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= LAST_VALIDATION
    assert_goes_on_as(whole_run, run)


@pytest.mark.slow
def test_kill_9(whole_run: Path, whole_words: tuple[str, ...], tmp_path: Path) -> None:
    code, _ = stop(signal.SIGKILL, whole_words, tmp_path)
    assert code == -signal.SIGKILL
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["status"] == "running"
    moved = shutil.move(only_run(tmp_path), tmp_path / "moved")
    assert_goes_on_as(whole_run, moved)


def stop(number: signal.Signals, words: tuple[str, ...], folder: Path) -> tuple[int, list[str]]:
    """Train, send a signal in the middle, and wait for the end; exit code and what was said."""
    process = start_command("train", *words, cwd=folder)
    try:
        while last_step(folder) < STEP:
            assert process.poll() is None, (folder / "output.txt").read_text()
            time.sleep(0.01)
        process.send_signal(number)
        code = process.wait(timeout=PATIENCE)
    finally:
        process.kill()
    return code, (folder / "output.txt").read_text(encoding="utf-8").splitlines()


def last_step(folder: Path) -> int:
    """The update that was logged last in the one run of a folder; 0 before the first."""
    for file in folder.glob("outputs/*/*/*/metrics.csv"):
        whole_lines = file.read_text().split("\n")[1:-1]
        return int(whole_lines[-1].partition(",")[0]) if whole_lines else 0
    return 0


def assert_goes_on_as(whole: Path, run: Path) -> None:
    """Resume; every loss and score, and the weights, are those of the run that was never interrupted."""
    outcome = run_command("train", f"resume={run}", cwd=run.parent)
    assert outcome.code == 0, outcome.err
    summary, expected = (json.loads((folder / "summary.json").read_text()) for folder in (run, whole))
    assert summary["status"] == "ok"
    assert summary["metrics"] == expected["metrics"]
    assert logged(run) == logged(whole)
    weights, expected_weights = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, whole)
    )
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=0)


def logged(run: Path) -> list[tuple[str, ...]]:
    """All rows of metrics.csv but for what time they took."""
    with (run / "metrics.csv").open() as file:
        return [tuple(row[:3]) for row in csv.reader(file) if "per_second" not in row[1]]
