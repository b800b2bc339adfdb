"""cosFormer against the paper's equations, written out."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild import DataError, build_attention
from attnbuild.memory import Memory

N, D, M = 6, 4, 10


@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_paper(causal: bool) -> None:
    """Qin et al. 2022, equations 7 and 8: s_ij = relu(q_i).relu(k_j) cos(pi/2 (i - j)/M), normalised by row."""
    core = build_attention("cosformer", dim=D, heads=1, causal=causal, max_len=M).core
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(N, D, dtype=torch.float64, generator=generator) for _ in range(3))
    expected = torch.zeros(N, D, dtype=torch.float64)
    for i in range(N):
        total = 0.0
        for j in range(i + 1 if causal else N):
            similarity = float(query[i].relu() @ key[j].relu()) * math.cos(math.pi / 2 * (i - j) / M)
            expected[i] += similarity * value[j]
            total += similarity
        expected[i] /= total or 1.0
    attended = core.attend(query[None, None], key[None, None], value[None, None], None)
    torch.testing.assert_close(attended.values[0, 0], expected)


def test_the_batch_does_not_set_its_scale() -> None:
    """Longer padding, same answer: M is the option, never the batch's length."""
    layer = build_attention("cosformer", dim=16, max_len=M)
    query = torch.randn(1, 5, 16)
    longer = torch.cat([query, torch.randn(1, 4, 16)], dim=1)
    mask = torch.arange(9).unsqueeze(0) >= 5
    torch.testing.assert_close(layer(longer, key_padding_mask=mask)[:, :5], layer(query))


def test_longer_than_max_len_is_refused_with_advice() -> None:
    layer = build_attention("cosformer", dim=16, causal=True, max_len=4)
    query = torch.randn(1, 5, 16)
    with pytest.raises(DataError, match="an input of 5 positions is longer than attention.max_len=4"):
        layer(query)
    state = layer.start(Memory(query, None, query[:, 0]))
    for step in range(4):
        _, state = layer.step(query[:, step : step + 1], state, 1)
    with pytest.raises(DataError, match="an input of 5 positions is longer than attention.max_len=4"):
        layer.step(query[:, 4:], state, 1)


def test_a_query_without_a_positive_channel_gets_nothing() -> None:
    core = build_attention("cosformer", dim=D, heads=1).core
    query = torch.full((1, 1, 2, D), -1.0, requires_grad=True)
    values = core.attend(query, torch.randn(1, 1, 2, D), torch.randn(1, 1, 2, D), None).values
    values.sum().backward()
    assert (values == 0).all()
    assert query.grad is not None
    assert query.grad.isfinite().all()
