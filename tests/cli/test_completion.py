"""Shell completion, asked the way the shells ask: by COMP_LINE."""

from __future__ import annotations

import pytest


@pytest.fixture
def complete(run, monkeypatch):
    """The completions of a line, cursor at its end."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        outcome = run("-sc", "query=bash")
        assert outcome.code == 0
        assert outcome.err == ""
        return outcome.out.split()

    return ask


def test_commands(complete):
    assert complete("attnbuild tr") == ["train"]
    assert {"train", "test", "predict", "list", "show"} <= set(complete("attnbuild "))


def test_choices_of_a_group(complete):
    assert complete("attnbuild train attention=luong_g") == ["attention=luong_general"]


@pytest.mark.parametrize("place", ["encoder/attention", "decoder/self_attention", "decoder/cross_attention"])
def test_choices_at_a_place(complete, place):
    assert complete(f"attnbuild train {place}=bah") == [f"{place}=bahdanau"]
    assert f"{place}=inherit" in complete(f"attnbuild train {place}=")


def test_options_of_the_chosen_preset(complete):
    assert "attention.window=" in complete("attnbuild train attention=window attention.")
    assert "attention.window=" not in complete("attnbuild train attention.")


def test_top_level(complete):
    assert {"attention=", "seed=", "trainer."} <= set(complete("attnbuild train "))


def test_flags_and_options_before_the_word(complete):
    assert complete("attnbuild train -m seed=1,2 model.dim=64 encoder=tr") == ["encoder=transformer"]


def test_presets_of_the_user(complete, user_dir):
    folder = user_dir("attention/narrow", "type: soft\n")
    line = f"attnbuild train --config-dir {folder} "
    assert complete(f"{line}attention=nar") == ["attention=narrow"]
    assert complete(f"{line}encoder/attention=nar") == ["encoder/attention=narrow"]


def test_words_of_other_commands(complete):
    assert complete("attnbuild predict run=x inp") == ["input="]
    assert "search=greedy" in complete("attnbuild test run=x search=")
    assert complete("attnbuild list atten") == ["attention"]
    assert complete("attnbuild list attention --j") == ["--json"]
    assert complete("attnbuild show --j") == ["--json"]
    assert "attention.window=" in complete("attnbuild show --json length=8 attention=window attention.")


def test_words_of_bench(complete, user_dir):
    assert "lengths=" in complete("attnbuild bench ")
    assert complete("attnbuild bench attention=window,luong_g") == ["attention=window,luong_general"]
    assert "attention.window=" in complete("attnbuild bench lengths=8,16 attention=window attention.")
    folder = user_dir("attention/narrow", "type: soft\n")
    assert complete(f"attnbuild bench --config-dir {folder} attention=nar") == ["attention=narrow"]


def test_a_wrong_line_completes_to_nothing(complete):
    assert complete("attnbuild train attention=windo atten") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_install(run, shell):
    outcome = run("-sc", f"install={shell}")
    assert outcome.code == 0
    assert "attnbuild" in outcome.out
