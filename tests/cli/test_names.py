"""Round 1: every wrong name and every override that cannot be read, together."""

from __future__ import annotations

import pytest

from attnbuild import list_names

EVERYTHING_WRONG = [
    "atention.window=4",
    "attention=windo",
    "decoder/cross_attention=bahdnau",
    "encoder/atention=window",
    "seed=[1,2",
    "nonsense",
    "optimizer=adamww",
]


def test_all_problems_come_together(refused):
    message = refused("train", *EVERYTHING_WRONG)
    assert message.startswith("7 problems in the config:")
    assert "there is no key 'atention'; did you mean 'attention'" in message
    assert "there is no 'windo'; did you mean 'window'?" in message
    assert "there is no 'bahdnau'; did you mean 'bahdanau'?" in message
    assert "there is no such group; did you mean 'encoder/attention'?" in message.replace(" or", "?\n")
    assert "cannot read the value at column 10" in message
    assert "is not an override" in message
    assert "did you mean 'adamw'" in message
    assert message.count("(command line)") == 7


def test_grammar_points_at_the_place(refused):
    lines = refused("train", "attention.window=[1,2").splitlines()
    caret = lines[-1].index("^") - lines[-2].index("attention.window")
    assert caret == len("attention.window=[1,2")


@pytest.mark.parametrize("word", ["attention=window,windo", "attention=choice(window,windo)"])
def test_each_value_of_a_sweep_is_checked(refused, word):
    assert "there is no 'windo'; did you mean 'window'?" in refused("train", "-m", word)


def test_several_values_need_multirun(refused):
    message = refused("train", "seed=1,2")
    assert "several values need -m" in message
    assert "[1,2]" in message


def test_a_preset_is_chosen_with_a_slash(refused):
    assert "encoder/attention=..." in refused("train", "encoder.attention=window")


def test_an_option_is_set_with_a_dot(refused):
    assert "attention.window=..." in refused("train", "attention/window=4")


def test_places_need_no_package(refused):
    assert "without '@'" in refused("train", "attention@decoder.cross_attention=bahdanau")


def test_unknown_flag(refused):
    assert "--attention" in refused("train", "--attention", "window")


def test_flags_that_exclude_each_other(refused):
    assert "only one of --multirun, --cfg" in refused("train", "-m", "--cfg", "job")


def test_missing_user_folder(refused, tmp_path):
    assert f"no such folder: {tmp_path}/nowhere" in refused("train", "--config-dir", "nowhere")


def test_an_experiment_that_chooses_what_is_not_there(refused, user_dir):
    folder = user_dir(
        "experiment/mine",
        "# @package _global_\n"
        "defaults:\n"
        "  - override /attention: windo\n"
        "  - override /decoder/cross_attention: bahdnau\n"
        "  - override /enkoder: rnn\n",
    )
    message = refused("train", "--config-dir", folder, "experiment=mine", "seeed=3")
    assert message.startswith("4 problems")
    assert message.count("(own/experiment/mine.yaml)") == 3
    assert "did you mean 'window'?" in message
    assert "did you mean 'bahdanau'?" in message
    assert "did you mean 'encoder'" in message
    assert "did you mean 'seed'" in message


def test_a_recipe_chosen_by_an_experiment_is_followed(refused, user_dir):
    user_dir("recipe/wrong", "# @package _global_\ndefaults:\n  - override /encoder: rn\n")
    folder = user_dir("experiment/mine", "# @package _global_\ndefaults:\n  - override /recipe: wrong\n")
    message = refused("train", "--config-dir", folder, "experiment=mine")
    assert "(own/recipe/wrong.yaml) there is no 'rn'; did you mean 'rnn'?" in message


def test_yaml_that_cannot_be_read(refused, user_dir):
    folder = user_dir("experiment/broken", "# @package _global_\nseed: [1, 2\nbatch: 3\n")
    message = refused("train", "--config-dir", folder, "experiment=broken")
    assert "experiment/broken.yaml" in message
    assert "not valid YAML" in message


def test_a_reference_to_nowhere(refused, user_dir):
    folder = user_dir("experiment/lost", "# @package _global_\nseed: ${modl.dim}\n")
    message = refused("train", "--config-dir", folder, "experiment=lost")
    assert "seed  (own/experiment/lost.yaml)" in message
    assert "modl.dim" in message


def test_an_experiment_in_a_folder_of_its_own(run, user_dir):
    folder = user_dir("experiment/papers/mine", "# @package _global_\nseed: 7\n")
    outcome = run("train", "--config-dir", folder, "experiment=papers/mine", "--cfg", "job")
    assert outcome.code == 0
    assert "seed: 7" in outcome.out


def test_a_group_of_the_users_own(run, user_dir):
    folder = user_dir("size/small", "# @package _global_\nmodel: {dim: 16}\n")
    outcome = run("train", "--config-dir", folder, "size=small", "--cfg", "job", "--package", "model")
    assert "dim: 16" in outcome.out


def test_advice_of_hydra_is_left_out(refused):
    message = refused("train", "hydra.swep.dir=x")
    assert "hydra.swep" in message
    assert "To append" not in message


def test_a_section_is_no_value(refused):
    assert "is a section of options" in refused("train", "model=3")


def test_nothing_may_be_chosen(run):
    assert run("train", "experiment=null", "--cfg", "job").code == 0


def test_an_invalid_defaults_list(refused, user_dir):
    folder = user_dir("experiment/mine", "# @package _global_\ndefaults:\n  override /encoder: rnn\n")
    assert "defaults must be a list" in refused("train", "--config-dir", folder, "experiment=mine")


@pytest.mark.parametrize("word", ["attention=null", "encoder=null", "~encoder"])
def test_what_a_model_needs_must_be_chosen(refused, word):
    assert "a choice is needed" in refused("train", word)


def test_a_name_like_no_other_gets_the_closest_and_then_all_of_them(refused):
    message = refused("train", "attention=nosuch")
    assert "there is no 'nosuch'; the closest: 'none', " in message
    lines = message.splitlines()
    assert max(map(len, lines)) <= 120
    assert ", ".join(line.strip().rstrip(",") for line in lines[2:]).split(", ") == list_names("attention")
