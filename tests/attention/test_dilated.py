"""The dilated window: which keys, and that a dilation of 1 is the plain one."""

from __future__ import annotations

import pytest
import torch

from tests.attention.seen import seen_by


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "dilation"), [(0, 2), (1, 3), (2, 2), (3, 4)])
def test_sees_exactly_its_keys(window: int, dilation: int, causal: bool) -> None:
    seen = seen_by("dilated", 13, heads=1, window=window, dilation=dilation, causal=causal)[0]
    for i in range(13):
        expected = {i + m * dilation for m in range(-window, 1 if causal else window + 1)} & set(range(13))
        assert set(seen[i].nonzero().flatten().tolist()) == expected


def test_without_dilation_it_is_the_window() -> None:
    plain, dilated = (
        seen_by(name, 20, window=3, **more) for name, more in (("window", {}), ("dilated", {"dilation": 1}))
    )
    assert torch.equal(plain, dilated)
