"""``attnbuild train -m``: from words to jobs, each a process of its own, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from attnbuild.sweeps.launchers import local
from attnbuild.training.lock import held
from attnbuild.training.run import RunFolder

#: What a job does here instead of training: its seed says how it ends.
JOB = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
seed = int(next(line for line in (folder / "config.yaml").read_text().splitlines() if line.startswith("seed:"))[5:])
(folder / "started").write_text(str(time.monotonic()))
stop = lambda number, frame: sys.exit(130)
signal.signal(signal.SIGTERM, stop)
summary = {"status": "ok", "monitor": "validation/bleu", "score": float(seed), "metrics": {"test/bleu": seed / 2}}
if seed == 11:
    summary = {"status": "failed", "error": "DataError: data.tsv:3: no tab"}
if seed == 13:
    os.kill(os.getpid(), signal.SIGKILL)
if seed == 17:
    summary = {"status": "oom", "error": "OutOfMemory: lower batch.tokens"}
if seed == 19 and not (folder / "again").exists():
    (folder / "again").write_text("")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_text("")
    print("Traceback: it broke")
    sys.exit(1)
if seed == 23:
    time.sleep(60)
time.sleep(0.2)
(folder / "summary.json").write_text(json.dumps(summary))
sys.exit({"ok": 0, "failed": 1, "oom": 3}[summary["status"]])
"""


@pytest.fixture
def jobs(monkeypatch):
    """Jobs that take a fraction of a second; gives a look at the folder of the only sweep."""
    monkeypatch.setattr(local, "training_command", lambda folder: [sys.executable, "-c", JOB, str(folder)])

    def only_sweep() -> Path:
        (folder,) = Path("outputs/sweeps").iterdir()
        return folder

    return only_sweep


def statuses(sweep: Path) -> dict[str, str]:
    """Folder of each job -> its status."""
    return {path.parent.name: json.loads(path.read_text())["status"] for path in sorted(sweep.glob("*/status.json"))}


def test_a_sweep(run, jobs):
    outcome = run("train", "seed=1,2", "-m", "model.dim=32", "attention=window,rope")
    assert outcome.code == 0, outcome
    sweep = jobs()
    assert statuses(sweep) == dict.fromkeys(
        (
            "0_seed-1_attention-window",
            "1_seed-1_attention-rope",
            "2_seed-2_attention-window",
            "3_seed-2_attention-rope",
        ),
        "ok",
    )
    job = sweep / "3_seed-2_attention-rope"
    config = yaml.safe_load((job / "config.yaml").read_text())
    assert (config["seed"], config["model"]["dim"], config["attention"]["preset"]) == (2, 32, "rope")
    assert config["paths"]["run"] == str(job.absolute())
    assert not {"sweep", "sweeper", "launcher", "hydra"} & config.keys()
    assert yaml.safe_load((job / "overrides.yaml").read_text()) == ["model.dim=32", "seed=2", "attention=rope"]
    status = json.loads((job / "status.json").read_text())
    assert status["overrides"] == ["seed=2", "attention=rope"]
    assert status["figures"] == {"monitor": "validation/bleu", "score": 2.0, "test/bleu": 1.0}
    assert "4 ok" in outcome.out
    record = json.loads((sweep / "sweep.json").read_text())
    assert record["dimensions"] == {"seed": ["1", "2"], "attention": ["window", "rope"]}
    assert record["fixed"] == ["model.dim=32"]


def test_multirun_may_stand_before_the_command(run, jobs):
    assert run("-m", "train", "seed=1,2").code == 0
    assert len(statuses(jobs())) == 2


def test_a_sweep_over_places_and_globs(run, jobs):
    run("train", "-m", "attention=window,rope", "decoder/cross_attention=glob(luong_*,exclude=luong_*c*)")
    chosen = []
    for job in sorted(jobs().glob("*/config.yaml")):
        config = yaml.safe_load(job.read_text())
        chosen.append((config["attention"]["preset"], config["decoder"]["cross_attention"]["preset"]))
    assert chosen == [
        (everywhere, here) for everywhere in ("window", "rope") for here in ("luong_dot", "luong_general")
    ]


def test_jobs_that_end_badly_harm_no_other(run, jobs):
    outcome = run("train", "-m", "seed=11,13,17,1", "sweep.name=bad")
    assert outcome.code == 1
    assert statuses(jobs()) == {"0_seed-11": "failed", "1_seed-13": "killed", "2_seed-17": "oom", "3_seed-1": "ok"}
    for said in ("data.tsv:3: no tab", "SIGKILL", "lower batch.tokens", "1 failed, 1 killed, 1 oom, 1 ok"):
        assert said in " ".join(outcome.out.split())
    assert "Traceback" not in outcome.err


def test_a_sweep_may_stop_at_a_failure(run, jobs):
    outcome = run("train", "-m", "seed=1,11,2", "sweep.on_failure=stop")
    assert outcome.code == 1
    assert statuses(jobs()) == {"0_seed-1": "ok", "1_seed-11": "failed"}
    assert "1 waiting" in outcome.out


def test_what_is_done_is_skipped_and_what_is_half_done_resumed(run, jobs):
    assert run("train", "-m", "seed=1,19").code == 1
    first = (jobs() / "0_seed-1" / "started").read_text()
    config_of_the_broken = (jobs() / "1_seed-19" / "config.yaml").stat().st_mtime_ns
    outcome = run("train", "-m", "seed=0,1,19")
    assert outcome.code == 0, outcome
    assert statuses(jobs()) == {"0_seed-1": "ok", "1_seed-19": "ok", "2_seed-0": "ok"}
    assert (jobs() / "0_seed-1" / "started").read_text() == first
    assert (jobs() / "1_seed-19" / "config.yaml").stat().st_mtime_ns == config_of_the_broken
    assert json.loads((jobs() / "1_seed-19" / "status.json").read_text())["attempts"] == 2
    assert "1_seed-19: resumed" in outcome.err
    assert "ok (before)" in outcome.out


def test_another_experiment_is_another_sweep(run, jobs):
    for dim in (32, 64):
        assert run("train", "-m", "seed=1,2", f"model.dim={dim}", f"launcher.jobs={dim // 16}").code == 0
    assert len(list(Path("outputs/sweeps").iterdir())) == 2


def test_jobs_run_side_by_side(run, jobs):
    began = time.monotonic()
    assert run("train", "-m", "seed=range(1,5)", "launcher.jobs=4").code == 0
    times = sorted(float(path.read_text()) for path in jobs().glob("*/started"))
    assert times[-1] - times[0] < 1.5
    assert times[0] > began


def test_gpus_are_leased(run, jobs, monkeypatch):
    """Two jobs of two GPUs and one of one, on three GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    seen = "import os,sys; open(sys.argv[1] + '/gpus','w').write(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    monkeypatch.setattr(local, "training_command", lambda folder: [sys.executable, "-c", seen + JOB, str(folder)])
    outcome = run("train", "-m", "trainer=ddp", "trainer.devices=2,1", "seed=1,2")
    assert outcome.code == 0, outcome
    gpus = {path.parent.name: path.read_text() for path in jobs().glob("*/gpus")}
    assert {len(names.split(",")) for name, names in gpus.items() if "devices-2" in name} == {2}
    assert gpus["0_devices-2_seed-1"] == "4,5"
    assert set(gpus["2_devices-1_seed-1"]) < set("457")
    refused = run("train", "-m", "trainer=ddp", "trainer.devices=1,4")
    assert refused.code == 2
    assert "4 GPUs are needed and this machine has 3" in refused.err


def test_combinations_that_cannot_work_are_told_before_the_first_job(refused, jobs):
    message = refused("train", "-m", "attention.heads=3,4,5", "seed=-1,2")
    assert "5 of 6 combinations cannot work" in message
    assert message.count("attention.heads=3") >= 2
    assert "sweep.invalid=skip" in message


def test_combinations_that_cannot_work_may_be_skipped(run, jobs):
    outcome = run("train", "-m", "attention.heads=3,4", "sweep.invalid=skip")
    assert outcome.code == 0
    assert statuses(jobs()) == {"0_heads-4": "ok"}
    assert "1 invalid" in outcome.out
    record = json.loads((jobs() / "sweep.json").read_text())
    assert record["invalid"][0]["overrides"] == ["attention.heads=3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attention=window,windo", "seed=1,2"), "did you mean 'window'?"),
        (("hydra/launcher=joblib", "seed=1,2"), "launcher=local launcher.jobs=2"),
        (("hydra.sweep.dir=here", "seed=1,2"), "sweep.name"),
        (("launcher.jobs=1,2",), "the same for all jobs"),
        (("resume=a,b",), "resumes its jobs by itself"),
        (("sweep.name=../../else", "seed=1,2"), "no path"),
        (("seed=interval(1,5)",), "sweeper=random"),
        (("sweeper=gird", "seed=1,2"), "did you mean 'grid'?"),
        (("sweep.on_failure=perhaps", "seed=1,2"), "'continue' or 'stop'"),
        (("model.dropout=tag(log,interval(0,0.5))",), "above 0"),
        (("model.dropout=interval(0.5,0.1)",), "is empty"),
    ],
)
def test_a_sweep_that_is_wrong(refused, jobs, words, said):
    assert said in refused("train", "-m", *words)


def test_a_space_in_a_file(run, jobs, user_dir):
    folder = user_dir(
        "sweep/mine",
        "space:\n  attention: choice(multihead,window)\n  attention.window: {values: [2, 4], when: {attention: window}}\n",
    )
    assert run("train", "-m", "--config-dir", folder, "sweep=mine", "sweep.name=mine").code == 0
    names = ["0_attention-multihead", "1_attention-window_window-2", "2_attention-window_window-4"]
    assert list(statuses(jobs())) == names


def test_an_experiment_may_be_a_sweep(run, jobs, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 1,2\n",
    )
    assert run("train", "--config-dir", folder, "experiment=mine").code == 0
    assert list(statuses(jobs())) == ["0_seed-1", "1_seed-2"]


def test_experiments_are_swept_over(run, jobs, user_dir):
    user_dir("experiment/one", "# @package _global_\nseed: 1\n")
    folder = user_dir("experiment/two", "# @package _global_\nseed: 2\n")
    run("train", "-m", "--config-dir", folder, "experiment=one,two")
    assert list(statuses(jobs())) == ["0_experiment-one", "1_experiment-two"]


def test_two_commands_never_share_a_sweep(run, jobs):
    folder = RunFolder("outputs/sweeps/mine")
    folder.create()
    with held(folder):
        outcome = run("train", "-m", "seed=1,2", "sweep.name=mine")
    assert outcome.code == 1
    assert f"process {os.getpid()}" in outcome.err
    assert not statuses(folder.path)


def test_a_dry_run(run, jobs):
    outcome = run("train", "-m", "seed=1,2", "launcher.dry_run=true")
    assert outcome.code == 0
    assert outcome.out.count("# ") == 2
    assert not Path("outputs").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_sweep_leaves_no_process(tmp_path, number):
    """The job under way is asked to save; those that wait are told as waiting."""
    start = f"import sys; from attnbuild.sweeps.launchers import local; from attnbuild.cli.main import main\n\
local.training_command = lambda folder: [sys.executable, '-c', {JOB!r}, str(folder)]\nsys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", start, "train", "-m", "seed=23,1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("outputs/sweeps/*/0_seed-23/started")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "1 interrupted, 1 waiting" in out
    (job,) = tmp_path.glob("outputs/sweeps/*/0_seed-23")
    with pytest.raises(ProcessLookupError):
        os.kill(json.loads((job / "status.json").read_text())["process"]["pid"], 0)
