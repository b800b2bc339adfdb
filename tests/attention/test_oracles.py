"""Outside oracles: PyTorch, x-transformers, and the papers' formulas written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.positions.alibi import alibi_slopes

B, N, S, D = 2, 5, 7, 16


@pytest.fixture
def query() -> Tensor:
    return torch.randn(B, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def memory() -> Tensor:
    return torch.randn(B, S, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def padding() -> Tensor:
    return torch.arange(S) >= torch.tensor([[S], [4]])


def as_torch_multihead(layer: torch.nn.Module) -> torch.nn.MultiheadAttention:
    """torch.nn.MultiheadAttention with the layer's weights."""
    twin = torch.nn.MultiheadAttention(D, layer.heads, batch_first=True, dtype=torch.float64)
    projections = (layer.query_projection, layer.key_projection, layer.value_projection)
    twin.in_proj_weight.data = torch.cat([part.weight for part in projections])
    twin.in_proj_bias.data = torch.cat([part.bias for part in projections])
    twin.out_proj.load_state_dict(layer.out_projection.state_dict())
    return twin


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_multihead_equals_torch(query: Tensor, memory: Tensor, padding: Tensor, heads: int) -> None:
    layer = build_attention("multihead", dim=D, memory_dim=D, heads=heads).double()
    for projection in (layer.query_projection, layer.value_projection, layer.out_projection):
        torch.nn.init.normal_(projection.bias)
    expected, weights = as_torch_multihead(layer)(
        query, memory, memory, key_padding_mask=padding, average_attn_weights=False
    )
    output, own_weights = layer(query, memory, key_padding_mask=padding, need_weights=True)
    torch.testing.assert_close(layer(query, memory, key_padding_mask=padding), expected)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(own_weights, weights)


def test_causal_multihead_equals_torch(query: Tensor) -> None:
    layer = build_attention("multihead", dim=D, heads=4, causal=True).double()
    mask = torch.nn.Transformer.generate_square_subsequent_mask(N, dtype=torch.float64)
    expected, _ = as_torch_multihead(layer)(query, query, query, attn_mask=mask, is_causal=True)
    torch.testing.assert_close(layer(query), expected)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_query_equals_sdpa_with_repeated_keys(query: Tensor, kv_heads: int) -> None:
    """Ainslie et al. 2023: query heads h*G to (h+1)*G - 1 share key and value head h."""
    layer = build_attention("grouped_query", dim=D, heads=4, kv_heads=kv_heads).double()

    def split(states: Tensor, heads: int) -> Tensor:
        return states.view(B, N, heads, D // 4).transpose(1, 2)

    key = split(layer.key_projection(query), kv_heads).repeat_interleave(4 // kv_heads, dim=1)
    value = split(layer.value_projection(query), kv_heads).repeat_interleave(4 // kv_heads, dim=1)
    values = F.scaled_dot_product_attention(split(layer.query_projection(query), 4), key, value)
    torch.testing.assert_close(layer(query), layer.out_projection(values.transpose(1, 2).flatten(2)))


def expected_context(scores: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
    """softmax over the real positions, then the weighted mean of the raw memory; (B, N, S) -> (B, N, D)."""
    exponentials = torch.exp(scores) * ~padding.unsqueeze(1)
    return (exponentials / exponentials.sum(-1, keepdim=True)) @ memory


def test_bahdanau_equals_the_paper(query: Tensor, memory: Tensor, padding: Tensor) -> None:
    """Bahdanau et al. 2015, A.1.2: e_ij = v' tanh(W s_i + U h_j)."""
    layer = build_attention("bahdanau", dim=D, memory_dim=D, score_dim=6).double()
    score = layer.core.score
    w, u, v = score.query_weight[0], score.key_weight[0], score.vector[0, :, 0]
    scores = torch.empty(B, N, S, dtype=torch.float64)
    for row in range(B):
        for i in range(N):
            for j in range(S):
                scores[row, i, j] = v @ torch.tanh(query[row, i] @ w + memory[row, j] @ u)
    expected = expected_context(scores, memory, padding)
    torch.testing.assert_close(layer(query, memory, key_padding_mask=padding), expected)


def test_additive_in_blocks_equals_additive_at_once(query: Tensor, memory: Tensor) -> None:
    layer = build_attention("bahdanau", dim=D, memory_dim=D).double()
    query.requires_grad_()
    whole = layer(query, memory)
    (expected,) = torch.autograd.grad(whole.sum(), query)
    layer.core.score.block_size = 1
    blocks = layer(query, memory)
    (gradient,) = torch.autograd.grad(blocks.sum(), query)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("preset", ["luong_dot", "luong_general", "scaled_dot"])
def test_raw_dot_scores_equal_the_papers(preset: str, query: Tensor, memory: Tensor, padding: Tensor) -> None:
    """Luong et al. 2015, 3.1; Vaswani et al. 2017, equation 1."""
    layer = build_attention(preset, dim=D, memory_dim=D).double()
    matrix = {
        "luong_dot": torch.eye(D, dtype=torch.float64),
        "scaled_dot": torch.eye(D, dtype=torch.float64) / math.sqrt(D),
    }.get(preset)
    matrix = layer.core.score.weight[0] if matrix is None else matrix
    expected = expected_context(query @ matrix @ memory.transpose(1, 2), memory, padding)
    torch.testing.assert_close(layer(query, memory, key_padding_mask=padding), expected)


def test_cosine_equals_the_paper(query: Tensor, memory: Tensor, padding: Tensor) -> None:
    """Liu et al. 2022 (Swin V2), equation 2, without the position bias."""
    layer = build_attention("cosine", dim=D, memory_dim=D, heads=1, projections="none", temperature=3.0).double()
    scores = 3.0 * F.cosine_similarity(query.unsqueeze(2), memory.unsqueeze(1), dim=-1)
    torch.testing.assert_close(
        layer(query, memory, key_padding_mask=padding), expected_context(scores, memory, padding)
    )


def test_fixed_context_is_the_masked_mean_or_the_given_summary(query: Tensor, memory: Tensor, padding: Tensor) -> None:
    layer = build_attention("none", dim=D, memory_dim=D)
    mean = torch.stack([memory[0].mean(0), memory[1, :4].mean(0)])
    torch.testing.assert_close(layer(query, memory, key_padding_mask=padding), mean.unsqueeze(1).expand(-1, N, -1))
    given = torch.ones(B, D, dtype=torch.float64)
    torch.testing.assert_close(layer(query, memory, summary=given), given.unsqueeze(1).expand(-1, N, -1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 3])
def test_window_sees_exactly_its_keys(query: Tensor, window: int, causal: bool) -> None:
    """|i - j| <= w; causal: i - w <= j <= i."""
    layer = build_attention("window", dim=D, window=window, causal=causal).double()
    _, weights = layer(query, need_weights=True)
    seen = weights[0, 0] > 0
    for i in range(N):
        for j in range(N):
            assert seen[i, j] == (i - window <= j <= (i if causal else i + window))


def test_rope_rates_by_distance_alone_and_as_the_paper() -> None:
    """Su et al. 2021, equation 34 as a rotation matrix a pair; scores depend on i - j only."""
    layer = build_attention("rope", dim=8, heads=1)
    rope = layer.core.position
    states = torch.randn(1, 1, 4, 8, dtype=torch.float64)
    turned = rope.rotate(states, torch.arange(4))
    for position in range(4):
        for pair in range(4):
            angle = position * 10000.0 ** (-2 * pair / 8)
            turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            part = slice(2 * pair, 2 * pair + 2)
            torch.testing.assert_close(
                turned[0, 0, position, part],
                turn.double() @ states[0, 0, position, part],
                rtol=1e-6,
                atol=1e-7,
            )
    one = states[:, :, :1].expand(-1, -1, 4, -1)
    products = rope.rotate(one, torch.arange(4)) @ rope.rotate(one, torch.arange(4) + 9).transpose(-1, -2)
    torch.testing.assert_close(products[0, 0].diagonal(), products[0, 0, 0, 0].expand(4))


def test_alibi_slopes_are_the_papers() -> None:
    """Press et al. 2022: 1/2, 1/4, ... for 8 heads; for 12 the slopes of 8, then every other one of 16."""
    assert alibi_slopes(8) == [2.0**-head for head in range(1, 9)]
    assert alibi_slopes(12) == alibi_slopes(8) + alibi_slopes(16)[0:8:2]


def test_alibi_bias_equals_the_paper(query: Tensor) -> None:
    layer = build_attention("alibi", dim=D, heads=2, causal=True).double()
    plain = build_attention("multihead", dim=D, heads=2, causal=True).double()
    plain.load_state_dict(layer.state_dict())
    split = [part(query).view(B, N, 2, 8).transpose(1, 2) for part in (plain.query_projection, plain.key_projection)]
    scores = split[0] @ split[1].transpose(-1, -2) / math.sqrt(8)
    distance = torch.arange(N).view(-1, 1) - torch.arange(N)
    scores = scores - torch.tensor([1 / 16, 1 / 256]).double().view(1, 2, 1, 1) * distance
    weights = scores.masked_fill(distance < 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(layer(query, need_weights=True)[1], weights)


def test_relative_equals_the_paper(query: Tensor) -> None:
    """Shaw et al. 2018, equations 4 and 5: (q_i . (k_j + a_clip(j - i))) / sqrt(d)."""
    layer = build_attention("relative", dim=D, heads=2, max_distance=2).double()
    query_heads, key_heads = (
        part(query).view(B, N, 2, 8).transpose(1, 2) for part in (layer.query_projection, layer.key_projection)
    )
    scores = torch.empty(B, 2, N, N, dtype=torch.float64)
    for i in range(N):
        for j in range(N):
            vector = layer.core.position.table[max(-2, min(2, j - i)) + 2]
            scores[:, :, i, j] = (query_heads[:, :, i] * (key_heads[:, :, j] + vector)).sum(-1) / math.sqrt(8)
    torch.testing.assert_close(layer(query, need_weights=True)[1], scores.softmax(-1))


def test_multi_query_equals_x_transformers(query: Tensor) -> None:
    """x-transformers' Attention with one key and value head, the same weights."""
    x_transformers = pytest.importorskip("x_transformers", reason="x-transformers is not installed")
    twin = x_transformers.Attention(dim=D, dim_head=4, heads=4, one_kv_head=True, causal=True, flash=False).double()
    layer = build_attention("multi_query", dim=D, heads=4, bias=False, causal=True).double()
    layer.query_projection.weight.data = twin.to_q.weight
    layer.key_projection.weight.data = twin.to_k.weight
    layer.value_projection.weight.data = twin.to_v.weight
    layer.out_projection.weight.data = twin.to_out.weight
    output = twin(query)
    torch.testing.assert_close(layer(query), output[0] if isinstance(output, tuple) else output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("preset", ["multihead", "window", "rope", "alibi", "relative", "bahdanau", "cosine"])
def test_half_precision_stays_near_single(preset: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = build_attention(preset, dim=D, causal=True)
    query = torch.randn(B, N, D)
    expected = layer(query)
    torch.testing.assert_close(layer.to(dtype)(query.to(dtype)).float(), expected, rtol=0.1, atol=0.06)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("need_weights", [False, True])
def test_cosine_of_a_zero_vector_is_no_nan(dtype: torch.dtype, need_weights: bool) -> None:
    """An RNN's states are exactly 0 at padding, and so are their raw keys."""
    layer = build_attention("cosine", dim=D, memory_dim=D, heads=1, projections="none").to(dtype)
    memory = torch.randn(1, S, D, dtype=dtype)
    memory[:, 4:] = 0
    output = layer(torch.zeros(1, N, D, dtype=dtype), memory, need_weights=need_weights)
    assert (output[0] if isinstance(output, tuple) else output).isfinite().all()
