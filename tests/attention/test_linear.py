"""Linear attention against the paper's equations, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.core.linear import EluPlusOne

N, S, D = 5, 7, 4


def phi(state: Tensor) -> Tensor:
    """Katharopoulos et al. 2020, equation 7."""
    return torch.where(state > 0, state + 1, torch.exp(state))


@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_paper(causal: bool) -> None:
    """Equations 4 and 5; causal: equations 9 to 12, and 18 to 20 step by step."""
    core = build_attention("linear", dim=D, heads=1, causal=causal, memory_dim=None if causal else D).core
    generator = torch.Generator().manual_seed(0)
    keys = N if causal else S
    query, key, value = (torch.randn(rows, D, dtype=torch.float64, generator=generator) for rows in (N, keys, keys))
    expected = torch.empty(N, D, dtype=torch.float64)
    for i in range(N):
        sums, total = torch.zeros(D, D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
        for j in range(i + 1 if causal else keys):
            sums += torch.outer(phi(key[j]), value[j])
            total += phi(key[j])
        expected[i] = phi(query[i]) @ sums / (phi(query[i]) @ total)
    attended = core.attend(query[None, None], key[None, None], value[None, None], None)
    torch.testing.assert_close(attended.values[0, 0], expected)


def test_single_precision_is_accurate_far_below_zero() -> None:
    """Features as small as exp(-80) still make an average, and there is no epsilon to drown them."""
    core = build_attention("linear", dim=D, heads=1).core
    key, value = torch.full((1, 1, S, D), -80.0), torch.randn(1, 1, S, D)
    values = core.attend(torch.zeros(1, 1, N, D), key, value, None).values
    torch.testing.assert_close(values, value.mean(dim=2, keepdim=True).expand(-1, -1, N, -1))


@pytest.mark.parametrize("below", [10.0, 20.0, 80.0])
def test_steps_and_weights_are_as_accurate_far_below_zero(below: float) -> None:
    """exp(x) - 1 + 1 in single precision would be 0 below -17."""
    core = build_attention("linear", dim=D, heads=1, causal=True).core
    query, key, value = torch.randn(3, 1, 1, N, D, generator=torch.Generator().manual_seed(0)).unbind()
    key = key - below
    exact = core.attend(query.double(), key.double(), value.double(), None).values
    weighted = core.attend(query, key, value, None, need_weights=True).values
    torch.testing.assert_close(weighted.double(), exact, rtol=1e-5, atol=1e-5)
    state = core.begin(query[:, 0])
    for step in range(N):
        now = slice(step, step + 1)
        attended, state = core.extend(query[:, :, now], key[:, :, now], value[:, :, now], state)
        torch.testing.assert_close(attended.values.double(), exact[:, :, now], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("point", [-1.0, 0.0, 1.0])
def test_the_slope_is_that_of_the_paper(point: float) -> None:
    """1 where x >= 0, exp(x) below; at 0 too, where it is one and not the sum of two pieces."""
    states = torch.full((1, 1, 1), point, dtype=torch.float64, requires_grad=True)
    EluPlusOne().plain(states, None, None, is_query=False).sum().backward()
    assert states.grad is not None
    assert states.grad.item() == pytest.approx(min(1.0, math.exp(point)))


def test_vanished_features_give_zero() -> None:
    core = build_attention("linear", dim=D, heads=1).core
    key = torch.full((1, 1, S, D), -1000.0, requires_grad=True)
    values = core.attend(torch.zeros(1, 1, N, D), key, torch.randn(1, 1, S, D), None).values
    values.sum().backward()
    assert (values == 0).all()
    assert key.grad is not None
    assert key.grad.isfinite().all()
