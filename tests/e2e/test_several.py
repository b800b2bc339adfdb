"""Trainings that belong together: sweeps, several processes, one run that starts from another."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import attnbuild
from tests.e2e.commands import PATIENCE, SMALL, only_run, run_command, start_command

FEW_STEPS = (*SMALL, "trainer.max_steps=4", "validation.every=4")


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def status_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def test_a_sweep_over_attentions(tmp_path: Path) -> None:
    words = (*FEW_STEPS, "-m", "attention=multihead,rope", "sweep.name=mine", "launcher.jobs=2")
    outcome = run_command("train", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    for number, preset in enumerate(("multihead", "rope")):
        run = tmp_path / "outputs" / "sweeps" / "mine" / f"{number}_attention-{preset}"
        summary = summary_of(run)
        assert summary["status"] == status_of(run)["status"] == "ok"
        assert summary["places"]["encoder.attention"]["preset"] == preset
        assert f"attention={preset}" in yaml.safe_load((run / "overrides.yaml").read_text())
        assert "test (greedy)" in (run / "log.txt").read_text(encoding="utf-8")
        figures = status_of(run)["figures"]
        assert figures["score"] == summary["score"]
        assert figures["test/bleu"] == summary["metrics"]["test/bleu"]
        progress = json.loads((run / "progress.json").read_text())
        assert (progress["step"], progress["monitor"]) == (4, "validation/bleu")
        assert [step for step, _ in progress["validations"]] == [4]
        assert "2 ok" in outcome.out
    assert run_command("train", *words, cwd=tmp_path).out.count("ok (before)") == 2


@pytest.mark.parametrize("devices", ["1,2", pytest.param("2,1", marks=pytest.mark.slow)])
def test_a_sweep_over_numbers_of_processes(tmp_path: Path, devices: str) -> None:
    """Every job trains once, in its own folder, with as many processes as it asked for."""
    words = (*FEW_STEPS, "-m", "trainer=ddp_sim", f"trainer.devices={devices}", "sweep.name=mine")
    outcome = run_command("train", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    jobs = sorted((tmp_path / "outputs" / "sweeps" / "mine").glob("*/summary.json"))
    assert [path.parent.name for path in jobs] == [f"{n}_devices-{k}" for n, k in enumerate(devices.split(","))]
    assert not list((tmp_path / "outputs").glob("translation"))
    trained = {path.parent.name[-1]: summary_of(path.parent)["tokens_trained"] for path in jobs}
    assert trained["2"] > 1.7 * trained["1"], "two processes read twice as much in as many steps"


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on(tmp_path: Path) -> None:
    """SIGKILL to who started it: its job saves and ends by itself, and the same command finishes all."""
    words = ("train", *SMALL, "-m", "seed=1,2", "sweep.name=mine", "trainer.max_steps=60", "validation.every=10")
    process = start_command(*words, cwd=tmp_path)
    first = tmp_path / "outputs" / "sweeps" / "mine" / "0_seed-1"
    wait_for(lambda: (first / "checkpoints" / "last.ckpt").is_file())
    process.kill()
    process.wait()
    wait_for(lambda: summary_of(first)["status"] == "interrupted")
    outcome = run_command(*words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "0_seed-1: resumed" in outcome.err
    assert "2 ok" in outcome.out


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """401 sentences over 2 ranks, each scored once; of 3 sentences for validation one rank gets none."""
    words = ("trainer=ddp_sim", "data.validation=3", "data.test=401")
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    run = only_run(tmp_path)
    lines = (run / "predictions-test.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(401))
    together = summary_of(run)["metrics"]
    assert "validation/bleu" in together

    outcome = run_command("test", f"run={run}", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    alone = json.loads((run / "test-1.json").read_text())["metrics"]
    assert alone == {name: pytest.approx(together[name], rel=1e-6) for name in alone}
    assert alone["test/bleu"] == pytest.approx(together["test/bleu"], abs=1e-9)
    assert alone["test/chrf"] == pytest.approx(together["test/chrf"], abs=1e-9)


def test_fine_tuning_with_another_attention(whole_run: Path, tmp_path: Path) -> None:
    words = (f"init_from={whole_run}", "decoder/cross_attention=bahdanau")
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    summary = summary_of(only_run(tmp_path))
    assert summary["not_loaded"]
    assert all("cross_attention" in name for name in summary["not_loaded"])
    (line,) = (line for line in outcome.err.splitlines() if "not in it or of another shape" in line)
    assert all(name in line for name in summary["not_loaded"])
    old, new = (attnbuild.load(run).model.state_dict() for run in (whole_run, only_run(tmp_path)))
    for name in set(new) - set(summary["not_loaded"]):  # four updates of the warm-up do not take a weight far
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-3)
