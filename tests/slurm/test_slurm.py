"""Jobs on a real SLURM, typed as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.commands import SMALL, only_run, program, run_command, start_command
from tests.slurm.conftest import asked, wait_until

pytestmark = pytest.mark.slurm

FEW_STEPS = (*SMALL, "trainer.max_steps=4", "validation.every=4")

#: Long enough that a signal, which takes its way through SLURM, finds it in the middle.
LONG = (*SMALL, "trainer.max_steps=400", "trainer.log_every=1", "validation.every=100", "model.dropout=0.1")

#: Seconds after which a job hangs, however busy the machine is.
PATIENCE = 600


def read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def status_of(run: Path) -> str:
    return read(run / "status.json").get("status", "")


def ended(run: Path) -> bool:
    return status_of(run) not in ("waiting", "queued", "running", "")


def job_of(run: Path) -> str:
    return str(read(run / "slurm.json")["job"])


def last_step(run: Path) -> int:
    try:
        lines = (run / "metrics.csv").read_text().split("\n")[1:-1]
    except FileNotFoundError:
        return 0
    return int(lines[-1].partition(",")[0]) if lines else 0


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def submitted(*words: str, folder: Path) -> Path:
    """The run folder of one run that was handed to SLURM."""
    folder.mkdir(exist_ok=True)
    outcome = run_command("train", *words, "launcher=slurm", cwd=folder)
    assert outcome.code == 0, outcome.err
    return only_run(folder)


def test_dry_run_submits_nothing(slurm: Path, tmp_path: Path) -> None:
    words = ("launcher=slurm", "launcher.dry_run=true", "launcher.time=2:00:00", "launcher.gpus_per_node=a100:4")
    words += ("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "launcher.setup=[module load cuda]")
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    for line in ("--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=a100:4", "--time=2:00:00", "--signal=B:USR1@120"):
        assert f"#SBATCH {line}" in lines
    assert "module load cuda" in lines
    assert not (tmp_path / "outputs").exists()
    assert asked("squeue", "--noheader") == ""
    script = tmp_path / "script.sh"
    script.write_text(outcome.out)
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0


def test_a_single_run_in_a_folder_with_odd_letters(slurm: Path, tmp_path: Path) -> None:
    run = submitted(*FEW_STEPS, folder=tmp_path / "it's 100%j of a dir")
    wait_until(lambda: ended(run), "the job does not end", PATIENCE)
    assert status_of(run) == "ok", (run / "output.txt").read_text()
    assert "test (greedy)" in (run / "output.txt").read_text()
    assert "test/bleu" in read(run / "status.json")["figures"]


def test_a_sweep_of_which_one_job_fails(slurm: Path, tmp_path: Path) -> None:
    """One job fails in its batch script, before attnbuild can say a word: SLURM has the word."""
    words = ("-m", "seed=1,2,3", "launcher=slurm", "sweep.name=three", "launcher.jobs=2")
    broken = ("launcher.setup=['case $SLURM_JOB_NAME in *seed-2*) exit 7;; esac']",)
    outcome = run_command("train", *FEW_STEPS, *words, *broken, cwd=tmp_path)
    assert outcome.code == 1, outcome.err
    assert "Traceback" not in outcome.err
    sweep = tmp_path / "outputs" / "sweeps" / "three"
    assert {path.parent.name: status_of(path.parent) for path in sweep.glob("*/status.json")} == {
        "0_seed-1": "ok",
        "1_seed-2": "killed",
        "2_seed-3": "ok",
    }
    assert "SLURM says" in read(sweep / "1_seed-2" / "status.json")["reason"]
    # The same command again does the one that is missing, and only that.
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert [read(path)["attempts"] for path in sorted(sweep.glob("*/status.json"))] == [1, 1, 1]
    assert [status_of(path.parent) for path in sweep.glob("*/status.json")] == ["ok"] * 3


def test_two_tasks_that_make_room_end_as_if_nothing_had_happened(slurm: Path, tmp_path: Path) -> None:
    """DDP over two tasks: warned, saved, sent back to the queue, resumed; equal to a run that nobody disturbed."""
    words = (*LONG, "trainer=ddp_sim")
    run = submitted(*words, folder=tmp_path / "disturbed")
    wait_until(lambda: last_step(run) > 110 or ended(run), "the job does not start", PATIENCE)
    asked("scancel", "--batch", "--signal=USR1", job_of(run))  # as SLURM does before the time is up
    wait_until(lambda: status_of(run) in ("interrupted", "queued") or ended(run), "the job goes on", PATIENCE)
    assert status_of(run) in ("interrupted", "queued"), (run / "output.txt").read_text()
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 110 < saved < 400, "the signal came too late to see anything"
    assert saved % 100, "the checkpoint is of the moment, not of the validation before"
    wait_until(lambda: status_of(run) == "ok", "the job is not resumed", PATIENCE)
    status = read(run / "status.json")
    assert status["attempts"] == 2
    assert "Restarts=1" in asked("scontrol", "show", "job", job_of(run))
    assert "Traceback" not in (run / "output.txt").read_text()

    outcome = run_command("train", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    alone = only_run(tmp_path)
    torch.testing.assert_close(weights(run), weights(alone), rtol=0, atol=0)
    assert read(run / "summary.json")["metrics"] == read(alone / "summary.json")["metrics"]


def test_srun_typed_by_hand(slurm: Path, tmp_path: Path) -> None:
    """Two tasks of one step: one run folder, written by one of them; too many are refused with the right words."""
    start = ["srun", "--ntasks=2", *program()]
    outcome = run_command("train", *FEW_STEPS, "trainer=ddp_sim", cwd=tmp_path, start=start)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("run folder:") == 1
    assert read(only_run(tmp_path) / "summary.json")["status"] == "ok"
    outcome = run_command("train", *FEW_STEPS, cwd=tmp_path, start=start)
    assert outcome.code != 0
    assert outcome.err.count("srun --nodes=1 --ntasks-per-node=1") == 1
    assert "trainer.devices=2" in outcome.err
    assert "Traceback" not in outcome.err
    only_run(tmp_path)  # and no second folder


def test_ctrl_c_leaves_jobs_alone_and_scancel_ends_them(slurm: Path, tmp_path: Path) -> None:
    words = ("train", *LONG, "trainer.max_steps=100000", "-m", "seed=1,2", "launcher=slurm", "sweep.name=one")
    sweep = start_command(*words, "launcher.jobs=1", cwd=tmp_path)
    run = tmp_path / "outputs" / "sweeps" / "one" / "0_seed-1"
    try:
        wait_until(lambda: last_step(run) > 5, "the job does not start", PATIENCE)
        sweep.send_signal(signal.SIGINT)
        assert sweep.wait(timeout=PATIENCE) == 130
    finally:
        sweep.kill()
    before = last_step(run)
    wait_until(lambda: last_step(run) > before, "the job ended with the sweep", PATIENCE)
    asked("scancel", job_of(run))
    wait_until(lambda: not asked("squeue", "--noheader"), "the job does not end", PATIENCE)
    time.sleep(1)
    assert asked("squeue", "--noheader") == "", "cancelled by its user, it must not come back"
    assert status_of(run) == "interrupted"


def test_a_slurm_that_refuses_is_told_in_one_line(slurm: Path, tmp_path: Path) -> None:
    words = ("launcher=slurm", "launcher.partition=nowhere")
    outcome = run_command("train", *FEW_STEPS, *words, cwd=tmp_path)
    assert outcome.code == 1
    assert "invalid partition" in outcome.err
    assert "Traceback" not in outcome.err
