"""Trainings that belong together: sweeps, several processes, one run that starts from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import attnbuild
from tests.e2e.commands import SMALL, only_run, run_command

FEW_STEPS = (*SMALL, "trainer.max_steps=4", "validation.every=4")


def summary_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def test_a_sweep_over_attentions(tmp_path: Path) -> None:
    outcome = run_command("train", *FEW_STEPS, "-m", "attention=multihead,rope", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    for number, preset in enumerate(("multihead", "rope")):
        run = tmp_path / "sweep" / str(number)
        summary = summary_of(run)
        assert summary["status"] == "ok"
        assert summary["places"]["encoder.attention"]["preset"] == preset
        assert f"attention={preset}" in yaml.safe_load((run / "overrides.yaml").read_text())
        assert "test (greedy)" in (run / "log.txt").read_text(encoding="utf-8")
        assert f"run folder: {run}" in outcome.err
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir()) == ["0", "1", "multirun.yaml"]


def test_a_job_that_fails_leaves_the_other_alone(tmp_path: Path) -> None:
    """5 heads do not divide a width of 32, which shows in the job only: a sweep checks names beforehand."""
    words = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "attention.heads=5,4", "hydra.sweep.dir=sweep")
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "heads" in outcome.err
    failed, finished = (summary_of(tmp_path / "sweep" / str(number)) for number in (0, 1))
    assert failed["status"] == "failed"
    assert "heads" in failed["error"]
    assert "attention.heads=5" in failed["overrides"]
    assert finished["status"] == "ok"
    assert "test/bleu" in finished["metrics"]


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
