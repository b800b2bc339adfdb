"""A run that was killed and resumed is the run that was not killed, to the last bit."""

from __future__ import annotations

import copy
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.errors import ConfigError
from attnbuild.training.checkpoint import load_checkpoint, save_checkpoint
from attnbuild.training.fit import train
from attnbuild.training.resume import resumed_config
from attnbuild.training.run import RunFolder
from attnbuild.training.stopping import Stopping

Config = dict[str, Any]


def losses(run: RunFolder) -> list[tuple[int, str, float]]:
    """All values logged, but for how fast they were."""
    with run.metrics_file.open() as file:
        rows = list(csv.DictReader(file))
    return [(int(row["step"]), row["metric"], float(row["value"])) for row in rows if "per_second" not in row["metric"]]


def assert_same_end(run: RunFolder, whole: RunFolder, first: int = 1) -> None:
    assert [row for row in losses(run) if row[0] >= first] == [row for row in losses(whole) if row[0] >= first]
    ours, theirs = load_checkpoint(run.last_checkpoint), load_checkpoint(whole.last_checkpoint)
    assert ours["attnbuild"]["step"] == theirs["attnbuild"]["step"]
    torch.testing.assert_close(ours["state_dict"], theirs["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(ours["optimizer_states"], theirs["optimizer_states"], rtol=0, atol=0)
    assert run.read_summary()["metrics"] == whole.read_summary()["metrics"]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    return {}


def whole_run(config: Config, whole_runs: dict[str, RunFolder], folder: Path) -> RunFolder:
    """The same run without a crash; made once for all tests that compare with it."""
    key = json.dumps(config)
    if key not in whole_runs:
        run = RunFolder(folder / "whole")
        train(copy.deepcopy(config), run, [])
        whole_runs[key] = run
    return whole_runs[key]


@pytest.mark.parametrize(
    ("accumulate", "average", "crash"),
    [
        (1, "none", {"step": 2}),  # before the first checkpoint
        (1, "none", {"step": 4}),  # just before a validation
        (1, "best5", {"step": 5}),  # just after one
        (1, "none", {"step": 6, "how": "validation"}),  # no validation there: never happens, runs through
        (1, "last5", {"step": 8, "how": "validation"}),
        (1, "ema", {"step": 11}),
        (2, "none", {"step": 5}),
        (2, "ema", {"step": 8, "how": "validation"}),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(
    config: Config,
    tmp_path: Path,
    whole_runs: dict[str, RunFolder],
    accumulate: int,
    average: str,
    crash: Config,
) -> None:
    config["trainer"] |= {"accumulate": accumulate, "max_steps": 14}
    config["average"] = average
    whole = whole_run(config, whole_runs, tmp_path)
    run = RunFolder(tmp_path / "run")
    config["callbacks"] = {"crash": crash}
    try:
        train(config, run, [])
        crashed = False
    except RuntimeError:
        crashed = True
        assert run.read_summary()["status"] == "failed"
    assert crashed == (crash["step"] != 6)
    if crashed:
        stored = run.read_config() | {"callbacks": {}}
        run.write_config(stored, [])
        summary = train({"resume": str(run.path)}, run, [])
        assert summary["status"] == "ok"
    assert_same_end(run, whole)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("step", [3, 4, 5, 8])
def test_interrupt_saves_and_resumes(
    config: Config, tmp_path: Path, whole_runs: dict[str, RunFolder], step: int, accumulate: int
) -> None:
    config["trainer"] |= {"accumulate": accumulate, "max_steps": 9}
    whole = whole_run(config, whole_runs, tmp_path)
    run = RunFolder(tmp_path / "run")
    config["callbacks"] = {"crash": {"step": step, "how": "SIGINT"}}
    with pytest.raises(KeyboardInterrupt):
        train(config, run, [])
    assert run.read_summary()["status"] == "interrupted"
    if step % 4:  # at a validation the checkpoint before it remains
        assert load_checkpoint(run.last_checkpoint)["global_step"] == step
    run.write_config(run.read_config() | {"callbacks": {}}, [])
    train({"resume": str(run.path)}, run, [])
    assert_same_end(run, whole)


def test_kill_9_and_resume(config: Config, tmp_path: Path, whole_runs: dict[str, RunFolder]) -> None:
    whole = whole_run(config, whole_runs, tmp_path)
    run = RunFolder(tmp_path / "run")
    config["callbacks"] = {"crash": {"step": 6, "how": "SIGKILL"}}
    program = "import json, sys; from attnbuild.training.fit import train; "
    program += "from attnbuild.training.run import RunFolder; "
    program += "train(json.loads(sys.argv[1]), RunFolder(sys.argv[2]), [])"
    done = subprocess.run([sys.executable, "-c", program, json.dumps(config), run.path], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert run.read_summary()["status"] == "running"
    run.write_config(run.read_config() | {"callbacks": {}}, [])
    train({"resume": str(run.path)}, run, [])
    assert_same_end(run, whole)


@pytest.mark.parametrize("steps", [6, 8])
def test_resume_goes_further(config: Config, tmp_path: Path, steps: int) -> None:
    """A run that ended by its steps continues with more of them, as if it had had them from the start."""
    whole = RunFolder(tmp_path / "whole")
    train(copy.deepcopy(config), whole, [])
    run = RunFolder(tmp_path / "run")
    config["trainer"]["max_steps"] = steps
    train(config, run, [f"trainer.max_steps={steps}"])
    before = run.read_summary()["wall_seconds"]
    assert (steps, "validation/bleu") in [row[:2] for row in losses(run)]
    summary = train({"resume": str(run.path)}, run, [f"resume={run.path}", "trainer.max_steps=12"])
    assert summary["overrides"] == [f"trainer.max_steps={steps}", "trainer.max_steps=12"]
    assert summary["wall_seconds"] > before
    assert_same_end(run, whole, first=steps + 1)


def test_a_rate_that_decays_by_time_goes_on_from_the_time_spent(
    config: Config, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["trainer"] |= {"max_minutes": 10, "max_steps": 4}
    config["scheduler"] = {"type": "linear", "warmup": 0}
    train(config, run, [])
    checkpoint = load_checkpoint(run.last_checkpoint)
    checkpoint["callbacks"]["Stopping"]["seconds"] = 9 * 60
    save_checkpoint(checkpoint, run.last_checkpoint)
    seconds = iter(range(1, 1000))  # one an update
    monkeypatch.setattr(Stopping, "seconds", property(lambda self: self.earlier + next(seconds)))
    words = [f"resume={run.path}", "trainer.max_steps=1000000", f"trainer.max_minutes={545 / 60}"]
    train({"resume": str(run.path)}, run, words)
    rates = [value for step, name, value in losses(run) if name == "train/learning_rate" and step > 5]
    assert rates
    assert max(rates) < 0.01 * config["optimizer"]["lr"]


def test_resumed_config_changes_only_what_can_change(config: Config) -> None:
    typed = ["resume=x", "trainer.max_steps=99", "validation.every=7", "search.beam=3", "attention=window"]
    with pytest.raises(ConfigError) as error:
        resumed_config(config, typed, "x")
    assert [problem.path for problem in error.value.problems] == ["search.beam", "attention"]
    changed = resumed_config(config, typed[:3], "x")
    assert changed["trainer"]["max_steps"] == 99
    assert changed["validation"]["every"] == 7
    assert config["trainer"]["max_steps"] == 12
    with pytest.raises(ConfigError, match="max_steps.*greater than"):
        resumed_config(config, ["trainer.max_steps=0"], "x")
