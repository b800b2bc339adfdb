"""Examples that stand for a split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from attnbuild.training.spread import spread


@given(count=st.integers(0, 50), total=st.integers(0, 500))
def test_as_many_as_there_are_evenly(count: int, total: int) -> None:
    found = spread(count, total)
    assert len(found) == min(count, total) == len({*found})
    assert all(0 <= place < total for place in found)
    gaps = {second - first for first, second in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1
