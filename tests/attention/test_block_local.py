"""Attention within blocks: which keys, and that blocks know nothing of each other."""

from __future__ import annotations

import pytest
import torch

from attnbuild import build_attention
from tests.attention.seen import seen_by


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_sees_exactly_its_block(size: int, causal: bool) -> None:
    seen = seen_by("block_local", 11, heads=1, block_size=size, causal=causal)[0]
    for i in range(11):
        for j in range(11):
            assert seen[i, j] == (i // size == j // size and (j <= i or not causal))


def test_each_block_is_attention_of_its_own() -> None:
    torch.manual_seed(0)
    local = build_attention("block_local", dim=16, block_size=100, backend="blocksparse").double()
    plain = build_attention("multihead", dim=16).double()
    plain.load_state_dict(local.state_dict())
    states = torch.randn(2, 250, 16, dtype=torch.float64)
    expected = torch.cat([plain(part) for part in states.split(100, dim=1)], dim=1)
    torch.testing.assert_close(local(states), expected)
