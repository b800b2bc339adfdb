"""The sliding window: which keys, what steps remember, and that it is no dense mask."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnbuild import build_attention
from attnbuild.memory import Memory
from tests.attention.seen import seen_by


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 3])
def test_sees_exactly_its_keys(window: int, causal: bool) -> None:
    seen = seen_by("window", 9, heads=1, window=window, causal=causal)[0]
    for i in range(9):
        for j in range(9):
            assert seen[i, j] == (i - window <= j <= (i if causal else i + window))


@pytest.mark.parametrize(
    ("preset", "options", "reach"),
    [("window", {}, 4), ("dilated", {"dilation": 3}, 12), ("block_local", {"block_size": 5}, 4)],
)
def test_steps_remember_what_can_be_seen_and_no_more(preset: str, options: dict[str, int], reach: int) -> None:
    """A cache that stays as it is, however many tokens: and still the same answers as all at once."""
    torch.manual_seed(0)
    options = options if preset == "block_local" else {"window": 4, **options}
    layer = build_attention(preset, dim=8, heads=2, causal=True, **options).eval()
    states = torch.randn(1, 400, 8)
    with torch.no_grad():
        whole, state = layer(states), layer.start(Memory(states, None, states[:, 0]))
        for step in range(400):
            attended, state = layer.step(states[:, step : step + 1], state, 1)
            assert state.key.shape[2] <= reach + 1
            assert state.key.untyped_storage().nbytes() <= (reach + 2) * 8 * 4
            torch.testing.assert_close(attended.values[:, 0], whole[:, step], rtol=1e-4, atol=1e-5)


def test_operations_are_those_of_the_keys_seen() -> None:
    """Forward and backward: 2 + 5 products of what the tiles hold, a 16th of the dense ones here."""
    core = build_attention("window", dim=32, heads=2, window=64).core
    states = [torch.randn(1, 2, 4096, 16, requires_grad=True) for _ in range(3)]
    with FlopCounterMode(display=False) as counted:
        core.attend(*states, None).values.sum().backward()
    dense = 7 * 2 * 2 * 4096 * 4096 * 16
    assert counted.get_total_flops() < dense / 16
