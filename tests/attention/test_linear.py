"""Linear attention against the paper's equations, written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbuild import build_attention

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


def test_vanished_features_give_zero() -> None:
    core = build_attention("linear", dim=D, heads=1).core
    key = torch.full((1, 1, S, D), -1000.0, requires_grad=True)
    values = core.attend(torch.zeros(1, 1, N, D), key, torch.randn(1, 1, S, D), None).values
    values.sum().backward()
    assert (values == 0).all()
    assert key.grad is not None
    assert key.grad.isfinite().all()
