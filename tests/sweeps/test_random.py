"""sweeper=random: drawn by chance, and the same draws again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.sweeps.space import Dimension, Interval, combinations
from attnbuild.sweeps.sweepers.base import SweeperPlace
from attnbuild.sweeps.sweepers.random import Random

ATTENTION = Dimension("attention", ("multihead", "window", "topk"))
WINDOW = Dimension("attention.window", ("4", "8"), when={"attention": ("window",)})
RATE = Dimension("optimizer.lr", Interval(1e-4, 1e-2, log=True))
WIDTH = Dimension("model.dim", Interval(1, 6, integer=True))


def chosen(dimensions, *, works=lambda chosen: True, **options) -> list[dict[str, str]]:
    sweeper = Random(SweeperPlace(dimensions, Path(), works), **options)
    return [dict(proposal.chosen) for proposal in sweeper.ask(0)]


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 20))
def test_more_trials_extend_a_sweep(seed, few, more):
    dimensions = [ATTENTION, WINDOW, RATE, WIDTH]
    longer = chosen(dimensions, trials=few + more, seed=seed)
    assert chosen(dimensions, trials=few, seed=seed) == longer[:few]
    assert len({tuple(one.items()) for one in longer}) == few + more
    assert all(("attention.window" in one) == (one["attention"] == "window") for one in longer)


def test_seeds_differ():
    assert chosen([RATE], trials=5, seed=0) != chosen([RATE], trials=5, seed=1)


def test_a_finite_space_is_drawn_from_until_it_is_empty():
    dimensions = [ATTENTION, WINDOW, WIDTH]
    sweeper = Random(SweeperPlace(dimensions, Path()), trials=100)
    proposals = [tuple(proposal.chosen.items()) for proposal in sweeper.ask(0)]
    assert len(proposals) == len(set(proposals)) == 4 * 6
    assert sweeper.remark == "there are no more than 24 combinations for 100 trials"
    assert sweeper.ask(0) == []


def test_what_cannot_work_is_drawn_again():
    asked = []

    def works(one):
        asked.append(tuple(one.items()))
        return one["model.dim"] in ("2", "4")

    found = chosen([ATTENTION, WIDTH], works=works, trials=100)
    assert len(found) == 6
    assert {one["model.dim"] for one in found} == {"2", "4"}
    assert len(asked) == len(set(asked)) == 18, "each combination is built once"


def test_where_next_to_nothing_works_the_search_for_it_ends():
    count = 0

    def works(one):
        nonlocal count
        count += 1
        return False

    found = chosen([RATE], works=works, trials=3)
    assert len(found) == 3, "they are handed on, so that their reasons are told"
    assert count <= 60
    assert len(chosen([ATTENTION], works=lambda one: False, trials=3)) == 1


def test_values_are_as_likely_as_each_other():
    found = chosen([ATTENTION, WINDOW, RATE], trials=600)
    shares = [sum(one["attention"] == value for one in found) / 600 for value in ATTENTION.values]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.07), "not by the number of combinations that each is in"
    windows = {one["attention.window"] for one in found if "attention.window" in one}
    assert windows == {"4", "8"}
    assert {value["attention"] for value in combinations([ATTENTION])} == set(ATTENTION.values)
