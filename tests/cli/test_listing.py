"""``attnbuild list``: names, papers, options with defaults, capabilities; for people and for programs."""

from __future__ import annotations

import json

import pytest

from attnbuild.cli.listing import kinds


def test_kinds(run):
    outcome = run("list")
    assert outcome.code == 0
    assert all(kind in outcome.out for kind in ("attention", "core", "encoder", "debug"))


def test_plain_lines_where_nobody_looks(run):
    lines = run("list", "attention").out.splitlines()
    window = next(line for line in lines if line.startswith("window "))
    assert "heads=4" in window
    assert "causal" in window
    assert "\x1b" not in window


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_as_json(run, kind):
    for entry in json.loads(run("list", kind, "--json").out):
        assert entry["name"]
        assert entry["summary"], entry


def test_options_as_json(run):
    (entry,) = json.loads(run("list", "search", "beam", "--json").out)
    beam = next(option for option in entry["options"] if option["name"] == "beam")
    assert beam["type"] == "int >= 1"
    assert beam["required"] is False
    assert beam["help"]


def test_capabilities_as_json(run):
    (entry,) = json.loads(run("list", "attention", "window", "--json").out)
    assert entry["capabilities"]["cross_attention"] is False
    assert entry["capabilities"]["causal"] is True


def test_a_glob_tells_all(run):
    out = run("list", "attention", "luong_g*").out
    assert out.startswith("luong_general")
    assert "number of query heads" in out
    assert "bahdanau\n" not in out


def test_unknown_kinds_and_names(run):
    outcome = run("list", "atention")
    assert (outcome.code, "did you mean 'attention'?" in outcome.err) == (2, True)
    outcome = run("list", "attention", "windo")
    assert (outcome.code, "did you mean 'window'?" in outcome.err) == (2, True)
