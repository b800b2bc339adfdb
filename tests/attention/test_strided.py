"""The strided pattern against its definition in the paper."""

from __future__ import annotations

import pytest
import torch

from attnbuild import ConfigError, build_attention
from tests.attention.seen import seen_by

LENGTH, HEADS = 13, 4


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("factorize", ["heads", "layers", "merged"])
@pytest.mark.parametrize("stride", [1, 3, 4, 20])
def test_strided_sees_what_the_paper_says(stride: int, factorize: str, causal: bool) -> None:
    """Child et al. 2019, 4.3: A1 = {t, ..., i} with t = max(0, i - l); A2 = {j : (i - j) mod l = 0}."""
    for layer in (0, 1):
        options = {"stride": stride, "factorize": factorize, "heads": HEADS, "causal": causal, "layer": layer}
        seen = seen_by("strided", LENGTH, **options)
        for head in range(HEADS):
            for i in range(LENGTH):
                for j in range(LENGTH):
                    first = max(0, i - stride) <= j <= i or (not causal and i <= j <= i + stride)
                    second = (i - j) % stride == 0 and (not causal or j <= i)
                    expected = {"heads": (first, second)[head % 2], "layers": (first, second)[layer]}.get(factorize)
                    assert seen[head, i, j] == (first or second if expected is None else expected)


def test_one_head_cannot_share_two_patterns_out() -> None:
    with pytest.raises(ConfigError, match="factorize=merged"):
        build_attention("strided", dim=8, heads=1)


def test_decoding_forgets_what_no_later_query_sees() -> None:
    """Even layers of factorize=layers see the last stride + 1 positions alone."""
    layer = build_attention("strided", dim=8, heads=2, stride=3, factorize="layers", causal=True)
    assert layer.core.pattern.reach == 3
    state = layer.core.begin(torch.zeros(1, 1, 8))
    for _ in range(9):
        _, state = layer.step(torch.randn(1, 1, 8), state, 1)
    assert state.key.shape[2] == 4
