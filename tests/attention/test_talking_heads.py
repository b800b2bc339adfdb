"""Shazeer et al. 2020: logits are mixed across heads before the softmax, weights after it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.block import AttentionBlock
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D, HEADS = 2, 4, 6, 12, 3
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
LENGTHS = [S, 4]
PADDING = torch.arange(S) >= torch.tensor(LENGTHS).unsqueeze(1)


def build(cross: bool = True, **options: object) -> AttentionBlock:
    torch.manual_seed(0)
    layer = build_attention("talking_heads", dim=D, memory_dim=D if cross else None, heads=HEADS, **options).double()
    torch.nn.init.normal_(layer.core.weighting.score_mixture)
    torch.nn.init.normal_(layer.core.weighting.weight_mixture)
    return layer


def split(states: Tensor) -> Tensor:
    return states.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def test_equals_the_paper() -> None:
    layer = build()
    first, second = layer.core.weighting.score_mixture, layer.core.weighting.weight_mixture
    query, key = split(layer.query_projection(QUERY)), split(layer.key_projection(MEMORY))
    output, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    value = split(layer.value_projection(MEMORY))
    for row, length in enumerate(LENGTHS):
        for n in range(N):
            logits = [[(query[row, h, n] @ key[row, h, j]).item() / 2 for j in range(length)] for h in range(HEADS)]
            mixed = [
                [sum(first[h, g].item() * logits[g][j] for g in range(HEADS)) for j in range(length)]
                for h in range(HEADS)
            ]
            soft = [[math.exp(e) / sum(map(math.exp, given)) for e in given] for given in mixed]
            for h in range(HEADS):
                expected = torch.zeros(S, dtype=torch.float64)
                for j in range(length):
                    expected[j] = sum(second[h, g].item() * soft[g][j] for g in range(HEADS))
                torch.testing.assert_close(weights[row, h, n], expected)
    merged = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(output, layer.out_projection(merged))


def test_equals_x_transformers() -> None:
    x_transformers = pytest.importorskip("x_transformers", reason="x-transformers is not installed")
    options = {"pre_talking_heads": True, "post_talking_heads": True, "flash": False}
    twin = x_transformers.Attention(dim=D, dim_head=D // HEADS, heads=HEADS, causal=True, **options).double()
    layer = build(cross=False, bias=False, causal=True)
    layer.query_projection.weight.data = twin.to_q.weight
    layer.key_projection.weight.data = twin.to_k.weight
    layer.value_projection.weight.data = twin.to_v.weight
    layer.out_projection.weight.data = twin.to_out.weight
    first, second = layer.core.weighting.score_mixture.data, layer.core.weighting.weight_mixture.data
    residual = first - torch.eye(HEADS)  # theirs is added to the scores
    twin.attend.pre_softmax_talking_heads.weight.data = residual.view(HEADS, HEADS, 1, 1)
    twin.attend.post_softmax_talking_heads.weight.data = second.view(HEADS, HEADS, 1, 1)
    output = twin(QUERY)
    torch.testing.assert_close(layer(QUERY), output[0] if isinstance(output, tuple) else output)


def test_starts_as_multihead() -> None:
    layer = build_attention("talking_heads", dim=D, heads=HEADS).double()
    plain = build_attention("multihead", dim=D, heads=HEADS).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(QUERY), plain(QUERY))


def test_a_causal_mixture_sees_no_future_and_padding_nothing() -> None:
    layer = build(cross=False, causal=True)
    moved = QUERY.clone()
    moved[:, 2:] += 1.0
    torch.testing.assert_close(layer(moved)[:, :2], layer(QUERY)[:, :2])
    cross, junk = build(), torch.where(PADDING.unsqueeze(-1), 1e3, MEMORY)
    expected = cross(QUERY, MEMORY, key_padding_mask=PADDING)
    torch.testing.assert_close(cross(QUERY, junk, key_padding_mask=PADDING), expected)


def test_gradient_is_right() -> None:
    layer = build()
    query = QUERY[:, :2].clone().requires_grad_()
    mixtures = [layer.core.weighting.score_mixture, layer.core.weighting.weight_mixture]
    assert torch.autograd.gradcheck(lambda *_: layer(query, MEMORY, key_padding_mask=PADDING), [query, *mixtures])


def test_beams_equal_their_histories() -> None:
    assert_beams_equal_their_histories(build(), MEMORY, PADDING)


def test_half_precision_stays_near_single() -> None:
    layer, query, memory = build().float(), QUERY.float(), MEMORY.float()
    expected = layer(query, memory, key_padding_mask=PADDING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(query, memory, key_padding_mask=PADDING)
    torch.testing.assert_close(mixed.float(), expected, rtol=0.1, atol=0.1)
