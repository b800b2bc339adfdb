"""Luong et al. 2015, 3.2, local-p: p = S sigmoid(v' tanh(W h)), a window around it, and a Gaussian."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild import ConfigError, build_attention
from attnbuild.attention.block import AttentionBlock
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D = 3, 6, 9, 8
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
LENGTHS = [S, 4, 0]
PADDING = torch.arange(S) >= torch.tensor(LENGTHS).unsqueeze(1)


def build(**options: object) -> AttentionBlock:
    torch.manual_seed(0)
    layer = build_attention("local_p", dim=D, memory_dim=D, **options).double()
    torch.nn.init.normal_(layer.core.vector)  # larger, so that p is spread over the sentence
    return layer


@pytest.mark.parametrize("window", [1, 2, 3, 20])
def test_equals_the_paper(window: int) -> None:
    """Equations 9 and 10: S is each row's own length, and the product is not normalised again."""
    layer = build(window=window)
    matrix, hidden, vector = layer.core.score.weight[0], layer.core.hidden_weight[0], layer.core.vector[0, :, 0]
    output, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    for row, length in enumerate(LENGTHS):
        for t in range(N):
            p = length / (1 + math.exp(-(vector @ torch.tanh(QUERY[row, t] @ hidden)).item()))
            seen = [j for j in range(length) if p - window <= j <= p + window]
            total = sum(math.exp((QUERY[row, t] @ matrix @ MEMORY[row, j]).item()) for j in seen)
            expected = torch.zeros(S, dtype=torch.float64)
            for j in seen:
                align = math.exp((QUERY[row, t] @ matrix @ MEMORY[row, j]).item()) / total
                expected[j] = align * math.exp(-((j - p) ** 2) / (2 * (window / 2) ** 2))
            torch.testing.assert_close(weights[row, 0, t], expected)
            torch.testing.assert_close(output[row, t], expected @ MEMORY[row])
    assert (weights.sum(-1) < 1).all()
    assert (output[2] == 0).all()


def test_bf16_finds_its_place_in_a_long_memory() -> None:
    """A step of bf16 in the share of S would be several positions."""
    query, lengths = torch.randn(1, 1, 64, D, generator=generator), torch.full((1, 1, 1, 1), 4000)
    core = build().core
    expected = core.centre(query.bfloat16().double(), torch.arange(64), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found = core.float().centre(query.bfloat16(), torch.arange(64), lengths)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05)


def test_each_head_looks_at_a_place_of_its_own() -> None:
    layer = build(heads=4, kv_heads=2, projections="all", window=1)
    centre = layer.core.centre(layer._queries(QUERY), torch.arange(N), torch.full((B, 1, 1, 1), S))
    assert centre.shape == (B, 4, N, 1)
    assert centre.std(dim=1).min() > 0


def test_beams_equal_their_histories() -> None:
    assert_beams_equal_their_histories(build(window=2), MEMORY, PADDING)


def test_the_place_learns_through_the_gaussian() -> None:
    """Moving every p by hand changes the output as the gradient says."""
    layer = build(window=3)
    inputs = (QUERY[:1, :2].clone().requires_grad_(), MEMORY[:1].clone().requires_grad_())
    assert torch.autograd.gradcheck(layer, inputs)
    (layer(QUERY, MEMORY) * MEMORY[:, :N]).sum().backward()
    assert all((part.grad != 0).any() for part in (layer.core.hidden_weight, layer.core.vector))


def test_positions_are_counted_in_single_precision() -> None:
    """bf16 has no odd numbers beyond 256: the window would fall beside its keys."""
    layer = build(window=1).bfloat16()
    memory = torch.randn(1, 1000, D).bfloat16()
    _, weights = layer(QUERY[:1].bfloat16(), memory, need_weights=True)
    centre = layer.core.centre(QUERY[:1].bfloat16().unsqueeze(1), torch.arange(N), torch.full((1, 1, 1, 1), 1000))
    assert centre.dtype == torch.float32
    seen = (weights > 0).sum(-1)
    assert ((seen == 2) | (seen == 3)).all()


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_refused_with_the_reason(causal: bool) -> None:
    with pytest.raises(ConfigError, match="S is unknown"):
        build_attention("local_p", dim=D, causal=causal)


def test_a_window_that_holds_no_position_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"attention.window  .*set it to 1 or more"):
        build(window=0)
