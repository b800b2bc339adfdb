from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild import registry
from attnbuild.training.schedulers import SchedulerPlace

DECAYING = ["cosine", "inverse_sqrt", "linear"]


def build(name: str, max_steps: int = 1000, **options: object):
    return registry.build("scheduler", SchedulerPlace(max_steps), {"type": name, **options}, "scheduler")


def vaswani(step: int, dim: int, warmup: int) -> float:
    """Equation 3 of Vaswani et al. (2017); its steps count from 1."""
    return dim**-0.5 * min(step**-0.5, step * warmup**-1.5)


@given(step=st.integers(0, 10_000), warmup=st.integers(1, 4000), dim=st.integers(1, 1024))
def test_inverse_sqrt_has_the_shape_of_the_paper(step: int, warmup: int, dim: int) -> None:
    peak = vaswani(warmup, dim, warmup)
    factor = build("inverse_sqrt", warmup=warmup)(step)
    assert factor * peak == pytest.approx(vaswani(step + 1, dim, warmup))


@given(step=st.integers(0, 3000), warmup=st.integers(0, 400), name=st.sampled_from([*DECAYING, "constant"]))
def test_factors_are_fractions_of_a_peak_reached_after_warmup(step: int, warmup: int, name: str) -> None:
    schedule = build(name, warmup=warmup)
    assert 0 <= schedule(step) <= 1
    assert schedule(0) > 0 or warmup == 0
    if step < warmup - 1:
        assert schedule(step) < schedule(step + 1)
    elif name in DECAYING:
        assert schedule(step) >= schedule(step + 1)
    else:
        assert schedule(step) == 1


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_decay_ends_at_its_final_value_and_stays(name: str) -> None:
    schedule = build(name, max_steps=100, warmup=10, final=0.1)
    assert schedule(9) == 1
    assert schedule(54) == pytest.approx(0.55)
    assert schedule(99) == schedule(500) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["cosine", "linear"])
@given(spent=st.floats(0, 1), step=st.integers(9, 2000))
def test_decay_is_by_time_where_that_ends_first(name: str, spent: float, step: int) -> None:
    place = SchedulerPlace(1000, lambda: spent)
    schedule = registry.build("scheduler", place, {"type": name, "warmup": 10}, "scheduler")
    by_updates = build(name, warmup=10)
    same = 10 + round(spent * 990) - 1  # the update at which as much has gone by in updates
    assert schedule(step) == pytest.approx(min(by_updates(step), by_updates(same)), abs=2e-3)
