"""The fixed pattern against its definition in the paper."""

from __future__ import annotations

import pytest

from attnbuild import ConfigError, build_attention
from tests.attention.seen import seen_by

LENGTH, HEADS = 13, 4


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("factorize", ["heads", "layers", "merged"])
@pytest.mark.parametrize(("stride", "summary"), [(1, 1), (4, 1), (4, 3), (20, 2)])
def test_fixed_sees_what_the_paper_says(stride: int, summary: int, factorize: str, causal: bool) -> None:
    """Child et al. 2019, 4.3: A1 = {j : floor(j/l) = floor(i/l)}; A2 = {j : j mod l in {t, ..., l}}, t = l - c."""
    for layer in (0, 1):
        options = {"factorize": factorize, "heads": HEADS, "causal": causal, "layer": layer}
        seen = seen_by("fixed", LENGTH, stride=stride, summary=summary, **options)
        for head in range(HEADS):
            for i in range(LENGTH):
                for j in range(LENGTH):
                    past = not causal or j <= i
                    first = j // stride == i // stride and past
                    second = j % stride in range(stride - summary, stride + 1) and past
                    expected = {"heads": (first, second)[head % 2], "layers": (first, second)[layer]}.get(factorize)
                    assert seen[head, i, j] == (first or second if expected is None else expected)


def test_summary_must_fit_into_a_block() -> None:
    with pytest.raises(ConfigError, match="do not fit into a block of 4"):
        build_attention("fixed", dim=8, heads=2, stride=4, summary=5)
