"""Choices of config groups that a plugin adds are chosen, listed and refused like those in files."""

from __future__ import annotations

import json
import sys

import pytest

PLUGIN = '''
import attnbuild

attnbuild.add_choice("recipe", "tiny_one", """
# @package _global_
# As small as it goes.
defaults:
  - override /encoder: rnn
model:
  dim: 24
""")
attnbuild.add_choice("attention", "narrow", """
# A window of two.
type: soft
pattern: window
window: 2
heads: 2
""")
attnbuild.add_choice("recipe", "broken", """
# @package _global_
defaults:
  - override /encoder: nothing_of_the_kind
""")
'''


@pytest.fixture(autouse=True)
def plugin(own_registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "some_choices.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "some_choices", raising=False)


def test_they_are_chosen(run):
    outcome = run(
        "show", "plugins=[some_choices]", "recipe=tiny_one", "encoder/attention=narrow", "encoder=transformer", "--json"
    )
    assert outcome.code == 0, outcome.err
    config = json.loads(outcome.out)["config"]
    assert config["model"]["dim"] == 24
    assert config["encoder"]["attention"]["preset"] == "narrow"
    assert config["encoder"]["attention"]["window"] == 2


def test_they_are_listed(run):
    assert "tiny_one" not in run("list", "recipe").out
    listed = run("list", "recipe", "plugins=[some_choices]")
    assert "As small as it goes." in listed.out


def test_what_they_choose_must_exist(run):
    outcome = run("show", "plugins=[some_choices]", "recipe=broken")
    assert outcome.code == 2
    assert "nothing_of_the_kind" in outcome.err
    assert "plugins://" in outcome.err
    outcome = run("show", "plugins=[some_choices]", "recipe=tiny_oen")
    assert "did you mean 'tiny_one'" in outcome.err


def test_a_module_that_is_nowhere_is_told(run):
    outcome = run("list", "recipe", "plugins=[nowhere_at_all]")
    assert outcome.code == 2
    assert "cannot import 'nowhere_at_all'" in outcome.err
