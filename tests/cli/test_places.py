"""The three override forms: in one process and the next, typed, in experiments, with a user's presets."""

from __future__ import annotations

import pytest

from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names


@pytest.fixture
def composed():
    """Compose overrides the way ``train`` does, without checking options."""

    def read(*overrides: str, config_dir: str | None = None):
        with open_loader(config_dir, overrides) as loader:
            config = compose(loader, check_names(loader, overrides))
            return resolve(config, config.hydra.runtime.choices)

    return read


def test_by_default_every_place_inherits_multihead(composed):
    config = composed()
    assert config["attention"]["preset"] == "multihead"
    assert config["encoder"]["attention"] == {"preset": "inherit"}
    assert config["decoder"]["self_attention"] == {"preset": "inherit"}
    assert config["decoder"]["cross_attention"] == {"preset": "inherit"}


def test_a_preset_everywhere(composed):
    config = composed("attention=window", "attention.window=4")
    assert config["attention"]["preset"] == "window"
    assert config["attention"]["window"] == 4


def test_a_preset_at_one_place_holds_its_own_options_only(composed):
    config = composed("attention=window", "decoder/cross_attention=bahdanau", "decoder.cross_attention.heads=2")
    place = config["decoder"]["cross_attention"]
    assert place["preset"] == "bahdanau"
    assert place["heads"] == 2
    assert "window" not in place
    assert config["attention"]["preset"] == "window"
    assert config["encoder"]["attention"] == {"preset": "inherit"}


def test_options_at_a_place_that_inherits(composed):
    assert composed("encoder.attention.heads=2")["encoder"]["attention"] == {"preset": "inherit", "heads": 2}


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_prefixes_change_nothing(composed, prefix):
    config = composed(f"{prefix}attention=window", f"{prefix}attention.window=4")
    assert (config["attention"]["preset"], config["attention"]["window"]) == ("window", 4)


def test_layers_that_differ(composed):
    config = composed("encoder.attention_by_layer={0: window, 2: multihead}")
    assert config["encoder"]["attention_by_layer"] == {0: "window", 2: "multihead"}


def test_in_an_experiment(composed, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\n"
        "defaults:\n"
        "  - override /attention: window\n"
        "  - override /decoder/cross_attention: bahdanau\n"
        "decoder: {cross_attention: {heads: 2}}\n"
        "seed: 5\n",
    )
    config = composed("experiment=mine", config_dir=folder)
    assert config["attention"]["preset"] == "window"
    assert config["decoder"]["cross_attention"]["preset"] == "bahdanau"
    assert config["decoder"]["cross_attention"]["heads"] == 2
    assert config["seed"] == 5


def test_what_is_typed_beats_the_experiment(composed, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\ndefaults:\n  - override /attention: window\n  - override /encoder: rnn\nseed: 5\n",
    )
    config = composed("experiment=mine", "attention=rope", "seed=6", config_dir=folder)
    assert config["attention"]["preset"] == "rope"
    assert config["encoder"]["type"] == "rnn"
    assert config["seed"] == 6


def test_an_experiment_chooses_a_recipe_and_beats_it(composed, user_dir):
    user_dir(
        "recipe/small",
        "# @package _global_\ndefaults:\n  - override /encoder: rnn\nmodel: {dim: 32}\nseed: 3\n",
    )
    folder = user_dir("experiment/mine", "# @package _global_\ndefaults:\n  - override /recipe: small\nseed: 5\n")
    config = composed("experiment=mine", config_dir=folder)
    assert config["encoder"]["type"] == "rnn"
    assert config["encoder"]["dim"] == 32
    assert config["seed"] == 5


def test_a_preset_of_the_user(composed, user_dir):
    folder = user_dir("attention/narrow", "type: soft\npattern: window\nwindow: 1\n")
    everywhere = composed("attention=narrow", config_dir=folder)
    assert everywhere["attention"] == {"preset": "narrow", "type": "soft", "pattern": "window", "window": 1}
    one_place = composed("decoder/self_attention=narrow", config_dir=folder)
    assert one_place["decoder"]["self_attention"]["preset"] == "narrow"
    assert one_place["attention"]["preset"] == "multihead"


def test_a_search_path_of_hydra(composed, user_dir):
    folder = user_dir("attention/narrow", "type: soft\nwindow: 1\n")
    config = composed(f"hydra.searchpath=[{folder}]", "encoder/attention=narrow")
    assert config["encoder"]["attention"]["preset"] == "narrow"


def test_paths_are_absolute_and_values_plain(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = composed()
    assert config["paths"] == {"outputs": str(tmp_path / "outputs"), "run": None}
    assert "hydra" not in config
    assert type(config["encoder"]) is dict
