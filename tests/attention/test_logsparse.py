"""The logsparse pattern against its definition in the paper."""

from __future__ import annotations

import pytest

from tests.attention.seen import seen_by

LENGTH = 37


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("local", [0, 1, 5])
def test_logsparse_sees_what_the_paper_says(local: int, causal: bool) -> None:
    """Li et al. 2019, 4.2: I = {i - 2^floor(log2 i), ..., i - 2^1, i - 2^0, i}, and the local range."""
    seen = seen_by("logsparse", LENGTH, local=local, heads=1, causal=causal)
    for i in range(LENGTH):
        past = {i} | {i - 2**power for power in range(i.bit_length())} | set(range(i - local, i))
        ahead = {i + 2**power for power in range(LENGTH.bit_length())} | set(range(i, i + local + 1))
        expected = past if causal else past | ahead
        for j in range(LENGTH):
            assert seen[0, i, j] == (j in expected)
