"""``attnbuild train -m``: one job for each combination, by any launcher and sweeper."""

from __future__ import annotations

from pathlib import Path

import yaml


def test_a_sweep(run, trained, tmp_path):
    outcome = run("train", "seed=1,2", "-m", "model.dim=32")
    assert outcome.code == 0, outcome
    assert [call.config["seed"] for call in trained] == [1, 2]
    assert {call.config["model"]["dim"] for call in trained} == {32}
    assert [call.folder.name for call in trained] == ["0", "1"]
    assert {call.folder.parent.parent for call in trained} == {tmp_path / "outputs" / "sweeps"}
    assert sorted(trained[0].typed) == ["model.dim=32", "seed=1"]


def test_multirun_may_stand_before_the_command(run, trained):
    assert run("-m", "train", "seed=1,2").code == 0
    assert len(trained) == 2


def test_a_sweep_over_presets_and_places(run, trained):
    run("train", "-m", "attention=window,rope", "decoder/cross_attention=bahdanau,luong_dot")
    chosen = [(c.config["attention"]["preset"], c.config["decoder"]["cross_attention"]["preset"]) for c in trained]
    assert chosen == [(everywhere, here) for everywhere in ("window", "rope") for here in ("bahdanau", "luong_dot")]


def test_a_glob_sweeps_over_presets_at_a_place(run, trained):
    run("train", "-m", "decoder/cross_attention=glob(luong_*,exclude=luong_*c*)")
    presets = [call.config["decoder"]["cross_attention"]["preset"] for call in trained]
    assert presets == ["luong_dot", "luong_general"]


def test_a_job_that_is_wrong_does_not_stop_the_others(run, trained):
    outcome = run("train", "-m", "seed=-1,2")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert "seed" in outcome.err
    assert [call.config["seed"] for call in trained] == [2]


def test_wrong_names_stop_a_sweep_before_it_starts(refused, trained):
    refused("train", "-m", "attention=window,windo", "seed=1,2")
    assert not trained


def test_joblib_runs_jobs_in_other_processes(run, user_dir, monkeypatch, tmp_path):
    """The places, a user's presets and the errors must all reach a process that imported nothing."""
    stub = tmp_path / "site"
    stub.mkdir()
    (stub / "sitecustomize.py").write_text(
        "import sys, types\n"
        "module = types.ModuleType('attnbuild.training.fit')\n"
        "def train(config, run, typed):\n"
        "    run.write_config(config, typed)\n"
        "    return {}\n"
        "module.train = train\n"
        "sys.modules['attnbuild.training.fit'] = module\n"
    )
    monkeypatch.syspath_prepend(stub)
    monkeypatch.setenv("PYTHONPATH", f"{stub}:{Path(__file__).parents[2]}")
    folder = user_dir("attention/narrow", "type: soft\npattern: window\nwindow: 1\nheads: 4\n")
    outcome = run(
        *("train", "-m", "--config-dir", folder, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        *("decoder/self_attention=narrow,window", "hydra.sweep.dir=sweep"),
    )
    assert outcome.code == 0, outcome
    presets = [
        yaml.safe_load(Path(f"sweep/{job}/config.yaml").read_text())["decoder"]["self_attention"]["preset"]
        for job in (0, 1)
    ]
    assert presets == ["narrow", "window"]


def test_a_sweeper_of_hydra(run, trained):
    outcome = run("train", "-m", "hydra/sweeper=basic", "hydra.sweeper.max_batch_size=1", "seed=1,2")
    assert outcome.code == 0
    assert len(trained) == 2


def test_an_experiment_may_be_a_sweep(run, trained, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 1,2\n",
    )
    assert run("train", "--config-dir", folder, "experiment=mine").code == 0
    assert [call.config["seed"] for call in trained] == [1, 2]


def test_experiments_are_swept_over(run, trained, user_dir):
    user_dir("experiment/one", "# @package _global_\nseed: 1\n")
    folder = user_dir("experiment/two", "# @package _global_\nseed: 2\n")
    run("train", "-m", "--config-dir", folder, "experiment=one,two")
    assert [call.config["seed"] for call in trained] == [1, 2]
