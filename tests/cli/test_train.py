"""``attnbuild train``, a single run: when it makes a folder, and what the training gets."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml


def test_a_single_run(run, trained, tmp_path):
    outcome = run("train", "attention=window", "attention.window=4", "+seed=3")
    assert outcome.code == 0, outcome
    assert (outcome.out, outcome.err) == ("", "")
    (call,) = trained
    assert call.config["attention"]["window"] == 4
    assert call.config["seed"] == 3
    assert call.typed == ["attention=window", "attention.window=4", "seed=3"]
    assert call.config["paths"]["run"] == str(call.folder)
    folder = call.folder.relative_to(tmp_path).as_posix()
    assert re.fullmatch(r"outputs/translation/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d-[0-9a-f]{6}", folder)
    assert (call.folder / ".hydra" / "config.yaml").is_file()


def test_two_runs_never_share_a_folder(run, trained):
    for _ in range(2):
        assert run("train").code == 0
    assert trained[0].folder != trained[1].folder


def test_a_folder_of_ones_own(run, trained, tmp_path):
    run("train", f"hydra.run.dir={tmp_path}/mine")
    assert trained[0].folder == tmp_path / "mine"


@pytest.mark.parametrize("wrong", ["attention=windo", "attention.windw=3", "trainer.max_steps=many"])
def test_no_folder_before_all_is_checked(refused, trained, wrong):
    refused("train", wrong)
    assert not trained


def test_a_folder_that_cannot_be_made(run, trained, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = run("train", "paths.outputs=file/outputs")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert "file/outputs" in outcome.err
    assert not trained


@pytest.mark.parametrize("preset", ["fast", "limit", "overfit", "profile"])
def test_debug_presets(run, trained, preset):
    assert run("train", f"debug={preset}").code == 0
    assert trained[0].config["trainer"]["max_steps"] < 1000


def test_a_resumed_run_goes_on_in_its_folder(run, trained):
    run("train", "encoder=rnn")
    first = trained[0]
    (first.folder / "config.yaml").write_text(yaml.safe_dump(first.config))
    notes = (first.folder / ".hydra" / "overrides.yaml").read_text()
    outcome = run("train", f"resume={first.folder}", "trainer.max_steps=3000")
    assert outcome.code == 0, outcome
    assert trained[1].folder == first.folder
    assert trained[1].typed == [f"resume={first.folder}", "trainer.max_steps=3000"]
    assert (first.folder / ".hydra" / "overrides.yaml").read_text() == notes


def test_a_resumed_run_keeps_its_model(run, trained):
    run("train")
    (trained[0].folder / "config.yaml").write_text(yaml.safe_dump(trained[0].config))
    outcome = run("train", f"resume={trained[0].folder}", "encoder.layers=2")
    assert outcome.code == 2
    assert "encoder.layers" in outcome.err
    assert len(trained) == 1


def test_resuming_what_is_not_there(run, trained):
    outcome = run("train", "resume=outputs/nothing")
    assert outcome.code == 1
    assert "outputs/nothing" in outcome.err
    assert not Path("outputs").exists()


def test_an_error_of_the_training_is_one_message(run, trained, monkeypatch):
    from attnbuild.errors import DataError

    def train(config, folder, typed):
        raise DataError("train.en:7: not UTF-8")

    monkeypatch.setattr(sys.modules["attnbuild.training.fit"], "train", train)
    outcome = run("train")
    assert (outcome.code, outcome.err) == (1, "train.en:7: not UTF-8\n")


def test_ctrl_c_in_the_training(run, trained, monkeypatch):
    def train(config, folder, typed):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["attnbuild.training.fit"], "train", train)
    outcome = run("train")
    assert (outcome.code, outcome.err) == (130, "interrupted\n")
