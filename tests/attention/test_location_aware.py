"""Chorowski et al. 2015: equations 8 and 9 in loops, beams that look at different places, sharpening."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbuild import ConfigError, build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.memory import Memory
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D, MEMORY_DIM = 2, 5, 7, 8, 6
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, MEMORY_DIM, dtype=torch.float64, generator=generator)
LENGTHS = [S, 4]
PADDING = torch.arange(S) >= torch.tensor(LENGTHS).unsqueeze(1)


def build(**options: object) -> AttentionBlock:
    torch.manual_seed(0)
    given = {"filters": 3, "kernel": 5, "score_dim": 4, **options}
    layer = build_attention("location_aware", dim=D, memory_dim=MEMORY_DIM, sequential=True, **given).double()
    torch.nn.init.normal_(layer.core.bias)
    torch.nn.init.normal_(layer.core.convolution.weight)
    return layer


def expected_weights(layer: AttentionBlock, row: int, head: int = 0) -> Tensor:
    """alpha_(t,j) by the paper, over raw states: e = w' tanh(W s + V h_j + U f_j + b), f = F * alpha_(t-1)."""
    core, length = layer.core, LENGTHS[row]
    filters = core.convolution.weight.view(core.place.heads, -1, core.convolution.kernel_size[0])[head]
    reach = filters.shape[1] // 2
    weights = torch.zeros(N, S, dtype=torch.float64)
    previous = [1.0] + [0.0] * (length - 1)
    for t in range(N):
        energies = []
        for j in range(length):
            feature = torch.zeros(len(filters), dtype=torch.float64)
            for offset in range(-reach, reach + 1):
                if 0 <= j + offset < length:
                    feature += filters[:, offset + reach] * previous[j + offset]
            hidden = (
                QUERY[row, t] @ core.query_weight[head]
                + MEMORY[row, j] @ core.key_weight[head]
                + feature @ core.location_weight[head]
                + core.bias[head, 0]
            )
            energies.append(core.sharpening * (torch.tanh(hidden) @ core.vector[head, :, 0]))
        exponentials = torch.exp(torch.stack(energies))
        previous = exponentials / exponentials.sum()
        weights[t, :length] = previous
    return weights


@pytest.mark.parametrize("sharpening", [1.0, 2.5])
def test_equals_the_paper(sharpening: float) -> None:
    layer = build(sharpening=sharpening)
    output, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    for row in range(B):
        expected = expected_weights(layer, row)
        torch.testing.assert_close(weights[row, 0], expected)
        torch.testing.assert_close(output[row], expected @ MEMORY[row])


def test_heads_have_matrices_and_previous_weights_of_their_own() -> None:
    """Two heads over one shared key head: each is the single-head form with its own parameters."""
    layer = build(heads=2, kv_heads=1, projections="all")
    state = layer.start(Memory(MEMORY, PADDING, MEMORY[:, 0]))
    assert state.key.shape[1] == 1
    assert state.previous.shape == (B, 2, S)
    _, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        single = build_attention(
            "location_aware", dim=4, memory_dim=4, sequential=True, filters=3, kernel=5, score_dim=4
        ).double()
        for name in ("query_weight", "location_weight", "bias", "vector"):
            getattr(single.core, name).data = getattr(layer.core, name).data[head : head + 1]
        single.core.key_weight.data = layer.core.key_weight.data
        single.core.convolution.weight.data = layer.core.convolution.weight.data[3 * head : 3 * head + 3]
        _, expected = single(
            layer.query_projection(QUERY)[..., part],
            layer.key_projection(MEMORY),
            key_padding_mask=PADDING,
            need_weights=True,
        )
        torch.testing.assert_close(weights[:, head], expected[:, 0])


@pytest.mark.parametrize("options", [{}, {"heads": 4, "kv_heads": 2, "projections": "all"}])
def test_beams_remember_where_they_looked(options: dict[str, object]) -> None:
    assert_beams_equal_their_histories(build(**options), MEMORY, PADDING)


def test_the_weights_before_matter_and_carry_gradient() -> None:
    layer = build()
    query = QUERY.clone().requires_grad_()
    output = layer(query, MEMORY)
    (gradient,) = torch.autograd.grad(output[:, -1].sum(), query)
    assert (gradient[:, 0] != 0).any()


def test_keys_are_transformed_once_a_sentence() -> None:
    layer = build()
    state = layer.start(Memory(MEMORY, PADDING, MEMORY[:, 0]))
    _, after = layer.step(QUERY[:, :1], state, B)
    assert after.key is state.key
    torch.testing.assert_close(state.key[:, 0], MEMORY @ layer.core.key_weight[0])


def test_topk_and_smoothed_are_the_papers_other_two() -> None:
    """Section 2.3: keep the k best frames; sigmoids in place of exponentials."""
    _, weights = build(weighting="topk", k=2)(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    assert ((weights > 0).sum(-1) == 2).all()
    _, weights = build(weighting="smoothed")(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, 1, N, dtype=torch.float64))


def test_only_a_recurrent_decoder_can_use_it() -> None:
    with pytest.raises(ConfigError, match="needs the weights of the step before"):
        build_attention("location_aware", dim=D, memory_dim=D)
    with pytest.raises(ConfigError, match="recurrent decoder's cross-attention"):
        build_attention("location_aware", dim=D, sequential=True)


def test_a_convolution_without_a_centre_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose 3 or 5"):
        build(kernel=4)


def test_half_precision_stays_near_single() -> None:
    layer, query, memory = build().float(), QUERY.float(), MEMORY.float()
    expected = layer(query, memory, key_padding_mask=PADDING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(query, memory, key_padding_mask=PADDING)
    torch.testing.assert_close(mixed.float(), expected, rtol=0.1, atol=0.06)
    half = layer.bfloat16()(query.bfloat16(), memory.bfloat16(), key_padding_mask=PADDING)
    torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.06)
