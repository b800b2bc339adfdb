"""Dropout keeps the expectation, drops as often as asked, and lets gradients through where values passed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_share_and_scale(p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1000, 1001))
    assert float((dropped == 0).double().mean()) == pytest.approx(p, abs=0.002)  # six standard deviations at 0.5
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    assert float(dropped.double().mean()) == pytest.approx(1, abs=0.02)


def test_values_of_one_draw_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(250_000, 4)) > 0).double()
    assert (torch.corrcoef(kept.T) - torch.eye(4)).abs().max() < 0.01


@given(
    shape=st.lists(st.integers(0, 4), max_size=3), p=st.sampled_from([1e-9, 0.1, 0.5, 0.999999]), seed=st.integers(0, 9)
)
def test_gradients_pass_where_values_do(shape, p, seed):
    torch.manual_seed(seed)
    values = torch.ones(shape, dtype=torch.double, requires_grad=True)
    dropped = Dropout(p)(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient, dropped.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_type_stays_and_a_seed_repeats_it(dtype):
    layer, values = Dropout(0.4), torch.randn(7, 9).to(dtype)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(layer(values))
    assert results[0].dtype == dtype
    assert torch.equal(*results)


def test_nothing_is_dropped_in_evaluation_nor_at_zero():
    values = torch.randn(5)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
