"""Round 2: every option that is wrong, with what was expected and where it came from."""

from __future__ import annotations

import copy

import pytest

from attnbuild.cli.check import check_config
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.sources import open_config


@pytest.fixture(scope="module")
def _valid():
    with open_loader() as loader:
        config = compose(loader, [])
        return resolve(config, config.hydra.runtime.choices)


@pytest.fixture
def config(_valid):
    """The default config, to be spoilt."""
    return copy.deepcopy(_valid)


def paths_of(config):
    return [problem.path for problem in check_config(config)]


def test_the_default_config_is_right(config):
    assert check_config(config) == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("task", "label_smothing"),
        ("data", "sorce"),
        ("tokenizer", "vocab_sise"),
        ("optimizer", "lrr"),
        ("scheduler", "warm_up"),
        ("search", "beem"),
        ("trainer", "max_stps"),
        ("batch", "token"),
        ("validation", "evry"),
        ("model", "dims"),
        ("paths", "output"),
        ("encoder", "layer"),
        ("decoder", "layer"),
        ("attention", "head"),
    ],
)
def test_unknown_keys_of_every_section(config, section, key):
    config[section][key] = 1
    assert f"{section}.{key}" in paths_of(config)


def test_weights_to_start_from_must_be_there(config, tmp_path):
    for missing in (tmp_path / "no_run", tmp_path / "no.ckpt"):
        config["init_from"] = str(missing)
        (problem,) = check_config(config)
        assert problem.path == "init_from"
        assert str(missing) in problem.message
    config["resume"] = str(tmp_path)  # it started from them long ago
    assert check_config(config) == []


def test_sections_places_and_parts_are_told_together(config):
    config["model"]["droput"] = 0.2
    config["decoder"]["layers"] = 0
    config["decoder"]["cross_attention"] = {"preset": "window", "type": "soft", "pattern": "window"}
    assert paths_of(config) == ["model.droput", "decoder.layers", "decoder.cross_attention"]


def test_unknown_keys_at_the_top_and_in_parts_by_name(config):
    config["sede"] = 1
    config["callbacks"]["early_stopping"] = {"patiense": 3}
    config["callbacks"]["early_stoping"] = {}
    config["logger"]["csv"] = {"file": "x"}
    config["validation"]["search"]["beam"] = 3
    paths = paths_of(config)
    assert {
        "sede",
        "callbacks.early_stopping.patiense",
        "callbacks.early_stoping",
        "logger.csv.file",
        "validation.search.beam",
    } <= set(paths)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.max_steps", 0),
        ("trainer.precision", "31"),
        ("model.dropout", 1.0),
        ("batch.tokens", "many"),
        ("optimizer.lr", -1),
        ("seed", 1.5),
        ("average", "best"),
        ("plugins", "module"),
        ("search.type", "beem"),
    ],
)
def test_types_and_ranges(config, path, value):
    section, _, key = path.rpartition(".")
    (config[section] if section else config)[key] = value
    assert paths_of(config) == [path]


@pytest.mark.parametrize("section", ["task", "encoder", "attention", "trainer", "callbacks", "optimizer"])
@pytest.mark.parametrize("value", [None, 3])
def test_a_section_that_is_none(config, section, value):
    config[section] = value
    assert section in paths_of(config)


def test_null_switches_a_part_off(config):
    config["callbacks"]["early_stopping"] = None
    assert check_config(config) == []


def test_a_part_under_another_name(config):
    config["callbacks"]["patient"] = {"type": "early_stopping", "patience": 99}
    assert check_config(config) == []


def test_a_plugin_that_cannot_be_imported(config):
    config["plugins"] = ["no_such_module"]
    (problem,) = check_config(config)
    assert problem.path == "plugins"
    assert "no_such_module" in problem.message


def test_every_problem_comes_with_its_origin(refused, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\nbatch: {tokns: 3}\ntrainer: {max_steps: 0}\ncallbacks: {early_stopping: {patience: 0}}\n",
    )
    message = refused(
        *("train", "--config-dir", folder, "experiment=mine"),
        *("attention.heds=4", "decoder/cross_attention=window", "optimizer={lr: fast}"),
    )
    assert message.startswith("6 problems"), message
    for path, origin in {
        "batch.tokns": "own/experiment/mine.yaml",
        "trainer.max_steps": "own/experiment/mine.yaml",
        "callbacks.early_stopping.patience": "own/experiment/mine.yaml",
        "attention.heds": "command line",
        "decoder.cross_attention": "command line",
        "optimizer.lr": "command line",
    }.items():
        line = next(line for line in message.splitlines() if line.strip().startswith(f"{path} "))
        assert f"({origin})" in line


def test_a_choice_of_an_experiment_is_its_origin(refused, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\ndefaults:\n  - override /decoder/cross_attention: window\n",
    )
    message = refused("train", "--config-dir", folder, "experiment=mine")
    assert "decoder.cross_attention  (own/experiment/mine.yaml)" in message


def test_an_option_in_a_preset_is_its_origin(refused, user_dir):
    folder = user_dir("attention/mine", "type: soft\nheads: 4\nwindw: 3\n")
    message = refused("train", "--config-dir", folder, "attention=mine")
    assert "attention.windw  (own/attention/mine.yaml)" in message


def test_shipped_files_have_short_names():
    with open_loader() as loader:
        opened = open_config(loader, "attention/window")
    assert opened is not None
    assert opened.name == "conf/attention/window.yaml"
