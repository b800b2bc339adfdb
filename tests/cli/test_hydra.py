"""What Hydra users know keeps working."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml


def test_cfg_shows_the_config_and_runs_nothing(run, trained):
    outcome = run("train", "attention=window", "attention.window=4", "--cfg", "job", "--resolve")
    assert outcome.code == 0
    config = yaml.safe_load(outcome.out)
    assert config["attention"]["window"] == 4
    assert config["encoder"]["dim"] == config["model"]["dim"]
    assert not trained
    assert not Path("outputs").exists()


def test_cfg_of_one_package(run):
    assert yaml.safe_load(run("train", "--cfg", "job", "--package", "batch").out).keys() == {
        "tokens",
        "rows",
        "eval_tokens",
        "eval_rows",
        "max_length",
    }


def test_cfg_hydra(run):
    assert "launcher:" in run("train", "--cfg", "hydra").out


@pytest.mark.parametrize("what", ["defaults", "defaults-tree", "config", "plugins", "searchpath"])
def test_info(run, what, caplog):
    outcome = run("train", "attention=window", "--info", what)
    assert outcome.code == 0


def test_hydra_help(run):
    outcome = run("train", "--hydra-help")
    assert outcome.code == 0
    assert "hydra/launcher" in outcome.out


def test_help_shows_the_three_forms_and_every_group(run):
    out = run("train", "--help").out
    for form in ("attention=window", "decoder/cross_attention=bahdanau", "attention.window=4"):
        assert form in out
    for group in ("attention", "decoder/cross_attention", "encoder", "tokenizer", "trainer", "debug"):
        assert re.search(rf"^{group}: \w", out, re.MULTILINE), group
