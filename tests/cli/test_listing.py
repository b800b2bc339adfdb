"""``attnbuild list``: names, papers, options with defaults, capabilities; for people and for programs."""

from __future__ import annotations

import json
import re

import pytest

from attnbuild import list_names
from attnbuild.cli.listing import kinds


def test_kinds(run):
    outcome = run("list")
    assert outcome.code == 0
    assert all(kind in outcome.out for kind in ("attention", "core", "encoder", "debug"))


def test_plain_lines_where_nobody_looks(run):
    """One a choice, as short as it goes: for grep, sort and the like."""
    head, *lines = run("list", "attention").out.splitlines()
    assert head.split() == ["name", "can", "what", "it", "is"]
    assert [line.split()[0] for line in lines] == list_names("attention")
    window = next(line for line in lines if line.startswith("window "))
    assert re.search(r"self, causal, linear +Sliding window: Beltagy et al. 2020", window)
    assert all(line == line.rstrip() and len(line) < 250 and "\x1b" not in line for line in lines)


def test_kinds_where_nobody_looks(run):
    """Lines of common width; each begins with its kind, so that a search finds both."""
    lines = run("list").out.splitlines()
    assert max(map(len, lines)) <= 100
    told = [line.split(maxsplit=1) for line in lines[1:]]
    names = {kind: ", ".join(names.rstrip(",") for at, names in told if at == kind) for kind in kinds()}
    assert names["attention"].split(", ") == list_names("attention")
    assert names["position"] == "alibi, none, relative, rope, t5"


@pytest.fixture(params=[80, 120])
def terminal(run, monkeypatch, request):
    """What a terminal of that width shows, without colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(request.param))

    def show(*words):
        lines = re.sub(r"\x1b\[[0-9;]*m", "", run(*words).out).splitlines()
        assert max(map(len, lines)) <= request.param
        return [line.rstrip() for line in lines]

    return show


def test_an_overview_on_a_terminal(terminal):
    """Names stand out: what is wrapped is indented below its column."""
    _, head, _, *lines, hint = terminal("list", "attention")
    assert hint == "all that is known of one: attnbuild list attention NAME"
    assert [line.split()[0] for line in lines if line[1:2].strip()] == list_names("attention")
    column = head.index("what it is")
    window = next(line for line in lines if line.startswith(" window "))
    assert window[column:].startswith("Sliding window")
    following = lines[lines.index(window) + 1]
    assert not following[:2].strip()


def test_kinds_on_a_terminal(terminal):
    *lines, hint = terminal("list")
    assert hint == "what there is of a kind: attnbuild list KIND"
    column = lines[1].index("names")
    first = next(number for number, line in enumerate(lines) if line.startswith(" attention "))
    assert not lines[first + 1][:column].strip()
    assert lines[first + 1][column].strip()


def test_details_on_a_terminal(terminal):
    told = terminal("list", "attention", "linformer")
    assert told[0] == "linformer"
    assert all(line.startswith("  ") for line in told[1:] if line.strip(" \u2500"))


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


@pytest.mark.parametrize("glob", ["LUONG_G*", "Luong_General", "luong_gener?l"])
def test_globs_in_whatever_case(run, glob):
    (entry,) = json.loads(run("list", "attention", glob, "--json").out)
    assert entry["name"] == "luong_general"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("attention=l*", "type `attnbuild list attention 'l*'`"),
        ("longformer", "type `attnbuild list attention longformer` or `attnbuild list core longformer`"),
        ("BeAm", "type `attnbuild list search beam`"),
        ("atention=l*", "did you mean 'attention'"),
    ],
)
def test_a_choice_without_its_kind_is_told_the_command(run, word, told):
    outcome = run("list", word)
    assert outcome.code == 2
    assert outcome.err.startswith(f"there is no kind {word!r} to list; {told}")


def test_unknown_kinds_and_names(run):
    outcome = run("list", "atention")
    assert (outcome.code, "did you mean 'attention'" in outcome.err) == (2, True)
    outcome = run("list", "attention", "windo")
    assert (outcome.code, "did you mean 'window'?" in outcome.err) == (2, True)
