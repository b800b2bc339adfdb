"""Weights by position alone: mean and variance by the formula, in every place, and where numbers get extreme."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild import build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.memory import Memory, masked_mean
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D = 2, 6, 8, 8
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
LENGTHS = [S, 5]
PADDING = torch.arange(S) >= torch.tensor(LENGTHS).unsqueeze(1)


def build(cross: bool = True, **options: object) -> AttentionBlock:
    torch.manual_seed(0)
    layer = build_attention("gaussian", dim=D, memory_dim=D if cross else None, heads=2, **options).double()
    for parameter in (layer.core.mean_weight, layer.core.variance_weight, layer.core.mean_bias):
        torch.nn.init.normal_(parameter)
    return layer


def expected_weights(layer: AttentionBlock, query: torch.Tensor, last: int) -> torch.Tensor:
    """One query (D,), keys 0 to last: (heads, last + 1)."""
    core, rows = layer.core, []
    for head, part in enumerate(layer.query_projection(query).view(2, -1)):
        mean = last / (1 + math.exp(-(part @ core.mean_weight[head, :, 0] + core.mean_bias[head, 0, 0]).item()))
        raw = part @ core.variance_weight[head, :, 0] + core.variance_bias[head, 0, 0]
        variance = math.log1p(math.exp(raw.item())) + 1 / 16
        densities = torch.tensor([math.exp(-((j - mean) ** 2) / (2 * variance)) for j in range(last + 1)]).double()
        rows.append(densities / densities.sum())
    return torch.stack(rows)


def test_bf16_finds_its_place_in_a_long_memory() -> None:
    """A step of bf16 in the share of the length would be several positions; where the weights peak, none is lost."""
    core = build().core
    query = torch.randn(1, 2, 64, D // 2, generator=generator).bfloat16()
    value = torch.zeros(1, 2, 4000, 1)
    with torch.no_grad():
        expected = core.attend(query.double(), value.double(), value.double(), None, need_weights=True).weights
        with torch.autocast("cpu", torch.bfloat16):
            found = core.float().attend(query, value, value, None, need_weights=True).weights
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.02)


def test_equals_the_formula_in_cross_attention() -> None:
    layer = build()
    _, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    for row, length in enumerate(LENGTHS):
        for t in range(N):
            expected = expected_weights(layer, QUERY[row, t], length - 1)
            torch.testing.assert_close(weights[row, :, t, :length], expected, rtol=1e-6, atol=1e-6)
            assert (weights[row, :, t, length:] == 0).all()


def test_equals_the_formula_in_causal_self_attention() -> None:
    """The last visible position is the query's own."""
    layer = build(cross=False, causal=True)
    _, weights = layer(QUERY, need_weights=True)
    for row in range(B):
        for t in range(N):
            expected = expected_weights(layer, QUERY[row, t], t)
            torch.testing.assert_close(weights[row, :, t, : t + 1], expected, rtol=1e-6, atol=1e-6)


def test_beams_equal_their_histories() -> None:
    assert_beams_equal_their_histories(build(kv_heads=1), MEMORY, PADDING)


def test_the_state_holds_values_alone() -> None:
    layer = build(cross=False, causal=True)
    assert not list(layer.key_projection.parameters())
    state = layer.start(Memory(QUERY, None, masked_mean(QUERY, None)))
    _, state = layer.step(QUERY[:, :1], state, B)
    assert vars(state).keys() == {"value"}


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0, 40.0])
def test_training_starts_from_sigma(sigma: float) -> None:
    layer = build_attention("gaussian", dim=D, sigma=sigma)
    variance = torch.nn.functional.softplus(layer.core.variance_bias) + layer.core.smallest_variance
    torch.testing.assert_close(variance.sqrt(), torch.full_like(variance, sigma), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
@pytest.mark.parametrize("length", [1, 5000])
def test_extreme_variances_are_finite(raw: float, length: int) -> None:
    layer = build_attention("gaussian", dim=D, memory_dim=D)
    layer.core.variance_bias.data.fill_(raw)
    query, memory = torch.randn(1, 3, D, requires_grad=True), torch.randn(1, length, D)
    output, weights = layer(query, memory, need_weights=True)
    output.sum().backward()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 3))
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_positions_are_counted_in_single_precision() -> None:
    layer = build_attention("gaussian", dim=D, memory_dim=D, sigma=1.0)
    torch.nn.init.zeros_(layer.core.variance_weight)
    query, memory = torch.randn(1, 3, D), torch.randn(1, 1000, D)
    _, weights = layer.bfloat16()(query.bfloat16(), memory.bfloat16(), need_weights=True)
    weights = weights.float() / weights.float().sum(-1, keepdim=True)
    middle = (weights * torch.arange(1000.0)).sum(-1, keepdim=True)
    spread = (weights * (torch.arange(1000.0) - middle).square()).sum(-1).sqrt()
    inside = (middle.squeeze(-1) > 10) & (middle.squeeze(-1) < 990)  # nothing is cut off at an end
    assert inside.sum() > 6
    torch.testing.assert_close(spread[inside], torch.ones(int(inside.sum())), rtol=0.1, atol=0)
