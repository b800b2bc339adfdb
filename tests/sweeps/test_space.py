"""Spaces: values, intervals, conditions, and the files of conf/sweep."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from attnbuild.cli.compose import compose, open_loader
from attnbuild.cli.names import check_names
from attnbuild.cli.overrides import read_overrides
from attnbuild.cli.sweep import _compose_job, _dimensions
from attnbuild.errors import ConfigError
from attnbuild.paths import conf_dir
from attnbuild.sections import Sweep as Settings
from attnbuild.sweeps.plan import Planner
from attnbuild.sweeps.space import (
    Dimension,
    Interval,
    all_combinations,
    as_words,
    combinations,
    conditions_in,
    dimension,
    draw,
    narrowed,
    require_possible,
    some_combinations,
    text_of,
)
from attnbuild.sweeps.sweepers.base import Proposal, SweeperPlace
from attnbuild.sweeps.sweepers.grid import Grid
from attnbuild.sweeps.sweepers.random import Random

ATTENTION = Dimension("attention", ("multihead", "window", "topk"))
WINDOW = Dimension("attention.window", ("4", "8"), when={"attention": ("window",)})
HEADS = Dimension("attention.heads", ("2", "4"))


@pytest.fixture(scope="module")
def loader():
    with open_loader() as opened:
        yield opened


def refusal(function, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments)
    return str(caught.value)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), st.booleans(), st.booleans(), st.integers())
def test_what_is_drawn_lies_within_and_is_read_as_written(one, other, integer, log, seed):
    low, high = sorted((one, other))
    if integer:
        low, high = float(max(1, round(low))), float(round(high) + 1)
    interval = Interval(low, high, integer, log)
    text = interval.draw(random.Random(seed))
    assert low <= float(text) <= high
    assert interval.holds(text)
    assert interval.text(float(text)) == text
    override = read_overrides([f"key={text}"])[0][0]
    assert override.value() == float(text)
    assert isinstance(override.value(), int) == integer, "a whole number has no point, another one has"


@pytest.mark.parametrize("log", [False, True])
def test_whole_numbers_reach_both_ends(log):
    generator, interval = random.Random(0), Interval(1, 4, integer=True, log=log)
    seen = [interval.draw(generator) for _ in range(400)]
    shares = [seen.count(value) / 400 for value in ("1", "2", "3", "4")]
    assert sum(shares) == 1
    # Evenly, or by the logarithm of n + 1/2 over n - 1/2.
    expected = [0.5, 0.232, 0.153, 0.114] if log else [0.25] * 4
    assert shares == pytest.approx(expected, abs=0.07)


def test_half_of_a_logarithmic_interval_lies_below_its_geometric_mean():
    generator, interval = random.Random(0), Interval(1e-5, 1e-1, log=True)
    below = sum(float(interval.draw(generator)) < 1e-3 for _ in range(400))
    assert below == pytest.approx(200, abs=40)


def test_a_condition_multiplies_only_where_it_holds():
    found = list(combinations([ATTENTION, WINDOW, HEADS]))
    assert len(found) == 2 * (1 + 2 + 1)
    assert all(("attention.window" in chosen) == (chosen["attention"] == "window") for chosen in found)
    assert found[0] == {"attention": "multihead", "attention.heads": "2"}
    place = SweeperPlace([ATTENTION, WINDOW, HEADS], Path())
    assert [proposal.chosen for proposal in Grid(place).ask(0)] == found
    generator = random.Random(1)
    assert all(draw(place.dimensions, generator) in found for _ in range(50))


def test_all_combinations_are_there_where_there_is_an_end_of_them():
    small = Dimension("model.dim", Interval(1, 3, integer=True))
    assert [chosen["model.dim"] for chosen in all_combinations([small])] == ["1", "2", "3"]
    assert all_combinations([Dimension("x", Interval(0, 1))]) is None
    assert all_combinations([Dimension("x", Interval(0, 1e9, integer=True))]) is None
    assert all_combinations([Dimension(f"x{number}", ("1", "2")) for number in range(20)]) is None


def test_some_combinations_hold_every_value():
    inner = Dimension("inner", ("a", "b"), when={"attention.window": ("8",)})
    many = [Dimension(f"x{number}", ("1", "2")) for number in range(8)]
    dimensions = [ATTENTION, WINDOW, inner, *many, Dimension("lr", Interval(1e-4, 1e-2, log=True))]
    found = some_combinations(dimensions, 60)
    assert len(found) == 60
    assert len({tuple(chosen.items()) for chosen in found}) == 60
    values = {pair for chosen in found for pair in chosen.items()}
    assert values == {(each.key, value) for each in dimensions for value in each.choices()}
    assert {value for key, value in values if key == "lr"} == {"0.0001", "0.01"}
    assert some_combinations([ATTENTION, WINDOW], 60) == list(combinations([ATTENTION, WINDOW]))


@pytest.mark.parametrize(
    ("value", "text"), [(True, "True"), (None, "null"), (0.10, "0.1"), (64, "64"), (1e-5, "1e-05"), ("a_b", "a_b")]
)
def test_a_condition_means_what_the_space_says(value, text):
    """Values of YAML come to the same text in the space and in a condition on it."""
    space = {"one": [value, "other"], "two": {"values": "choice(1,2)", "when": {"one": value}}}
    words = as_words(space)
    overrides, problems = read_overrides(words)
    assert not problems
    first = dimension(overrides[0], {})
    second = dimension(overrides[1], conditions_in(space, "f")["two"])
    assert first.values == (text, "other")
    assert text_of(value) == text
    assert [len(chosen) for chosen in combinations([first, second])] == [2, 2, 1]


@pytest.mark.parametrize(
    ("space", "parts"),
    [
        ({"a": {"values": [1, 2], "wen": {}}}, ["sweep.space.a", "'wen'", "'when'"]),
        ({"a": {"when": {}}}, ["sweep.space.a", "needs values"]),
        ({"a": {"values": [1, 2], "when": "b"}}, ["sweep.space.a", "expected {other key"]),
        (
            {"a": {"values": [1, 2], "when": {"b": 1}}, "b": [1, 2]},
            ["'b' must be a key of the space before", "move it there"],
        ),
        ({"a": {"values": [1, 2], "when": {"a": 1}}}, ["'a' must be a key of the space before"]),
        ({"b": [1, 2], "a": {"values": [1, 2], "when": {"bb": 1}}}, ["'bb' must be a key", "'b'?"]),
    ],
)
def test_conditions_that_cannot_be_read_are_refused(space, parts):
    message = refusal(conditions_in, space, "conf/sweep/mine.yaml")
    assert all(part in message for part in [*parts, "conf/sweep/mine.yaml"]), message


def test_conditions_that_never_hold_are_refused():
    never = Dimension("attention.k", ("1", "2"), when={"attention": ("topl",)})
    message = refusal(require_possible, [ATTENTION, never], [], "mine.yaml")
    assert all(part in message for part in ("sweep.space.attention.k", "mine.yaml", "never 'topl'", "'topk'?"))
    require_possible([ATTENTION, never], ["attention"], "mine.yaml")  # typed anew, without that value
    on_interval = Dimension("b", ("1", "2"), when={"a": ("1",)})
    assert "interval" in refusal(require_possible, [Dimension("a", Interval(0, 1)), on_interval], [], "mine.yaml")


def test_a_key_that_is_typed_is_not_chosen_any_more():
    space = {"a": ["x", "y"], "b": {"values": [1, 2], "when": {"a": "x"}}, "c": {"values": [1, 2], "when": {"b": 1}}}
    conditions = conditions_in(space, "f")
    assert narrowed(space, conditions, {}) == (space, conditions)
    kept, left = narrowed(space, conditions, {"a": "x"})
    assert (list(kept), left) == (["b", "c"], {"b": {}, "c": {"b": ("1",)}})
    assert narrowed(space, conditions, {"a": "y"}) == ({}, {})
    assert list(narrowed(space, conditions, {"b": "2"})[0]) == ["a"]


def dimensions_of(loader, fixed: list[str], swept: list[str], space: dict) -> list[Dimension]:
    settings = Settings(name=None, on_failure="continue", invalid="refuse", space=space)
    base = compose(loader, check_names(loader, fixed, multirun=True), multirun=True)
    return _dimensions(loader, fixed, swept, settings, base, "mine.yaml")


def test_what_is_typed_takes_the_place_of_the_file(loader):
    space = {
        "attention": ["multihead", "window"],
        "attention.window": {"values": [4, 8], "when": {"attention": "window"}},
    }
    found = dimensions_of(loader, [], ["attention=window,rope", "seed=1,2"], space)
    assert [(each.key, each.values) for each in found] == [
        ("attention", ("window", "rope")),
        ("attention.window", ("4", "8")),
        ("seed", ("1", "2")),
    ]
    assert len(list(combinations(found))) == 6
    (found,) = dimensions_of(loader, ["attention=window"], [], space)
    assert (found.key, found.values, dict(found.when)) == ("attention.window", ("4", "8"), {})
    assert dimensions_of(loader, ["attention=rope"], [], space) == []


def test_a_wrong_space_is_told_with_its_file(loader):
    wrong = [
        ({"atention": ["multihead", "window"]}, ["atention", "'attention'"]),
        ({"attention": ["multihead", "windw"]}, ["attention", "'windw'", "'window'"]),
        ({"seed": [1, 2], "attention.window": {"values": [4, 8], "when": {"seed": 3}}}, ["never '3'", "1, 2"]),
        ({"seed": 1}, ["seed", "one value is nothing to sweep over"]),
    ]
    for space, parts in wrong:
        message = refusal(dimensions_of, loader, [], [], space)
        assert all(part in message for part in [*parts, "mine.yaml"]), message


#: What a shipped space needs beside it.
BESIDE: dict[str, list[str]] = {}


@pytest.mark.parametrize("most", [16, pytest.param(54, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml")))
def test_a_shipped_space_holds_what_works(loader, tmp_path, name, most):
    """Every combination where there are so many at most, and otherwise as many that are drawn."""
    fixed = BESIDE.get(name, [])
    base = compose(loader, check_names(loader, [*fixed, f"sweep={name}"], multirun=True), multirun=True)
    dimensions = dimensions_of(loader, fixed, [], OmegaConf.to_container(base.sweep.space))
    planner = Planner(tmp_path, check_names(loader, fixed), dimensions, partial(_compose_job, loader))
    every = all_combinations(dimensions)
    if every is None or len(every) > most:
        few = 6 if most == 16 else 50
        every = [proposal.chosen for proposal in Random(SweeperPlace(dimensions, tmp_path), trials=few).ask(0)]
        assert len(every) == few
    problems = [(chosen, planned.problems) for chosen in every if (planned := planner.plan(Proposal(chosen))).problems]
    assert problems == []
    assert {key for chosen in every for key in chosen} == {each.key for each in dimensions}
