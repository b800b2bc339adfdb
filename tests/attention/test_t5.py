"""T5's relative bias against transformers' T5."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attnbuild import build_attention

DIM, HEADS, LENGTH = 16, 4, 300


@pytest.fixture(scope="module")
def t5() -> Any:
    return pytest.importorskip("transformers.models.t5.modeling_t5", reason="transformers is not installed")


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (32, 64), (9, 128), (8, 128), (6, 20), (4, 3)])
def test_bias_equals_transformers(t5: Any, buckets: int, max_distance: int, causal: bool) -> None:
    options = {"relative_attention_num_buckets": buckets, "relative_attention_max_distance": max_distance}
    config = t5.T5Config(d_model=DIM, d_kv=DIM // HEADS, num_heads=HEADS, is_decoder=causal, **options)
    twin = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    layer = build_attention(
        "t5", dim=DIM, heads=HEADS, distance_buckets=buckets, max_distance=max_distance, causal=causal
    )
    layer.core.position.table.data = twin.relative_attention_bias.weight
    positions = torch.arange(LENGTH)
    bias = layer.core.position.bias(torch.zeros(1, HEADS, LENGTH, DIM // HEADS), positions, positions)
    expected = twin.compute_bias(LENGTH, LENGTH)
    if causal:  # what is ahead is never seen
        bias, expected = bias.tril(), expected.tril()
    torch.testing.assert_close(bias, expected, rtol=0, atol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_equals_transformers(t5: Any, causal: bool) -> None:
    """The same weights; T5 does not divide by the root of the width, which the score `dot` does not either."""
    config = t5.T5Config(d_model=DIM, d_kv=DIM // HEADS, num_heads=HEADS, is_decoder=causal, dropout_rate=0.0)
    twin = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double().eval()
    layer = build_attention("t5", dim=DIM, heads=HEADS, score="dot", bias=False, causal=causal).double()
    pairs = {"query": twin.q, "key": twin.k, "value": twin.v, "out": twin.o}
    for name, part in pairs.items():
        getattr(layer, f"{name}_projection").load_state_dict(part.state_dict())
    layer.core.position.table.data = twin.relative_attention_bias.weight
    states = torch.randn(2, 21, DIM, dtype=torch.float64)
    mask = torch.full((21, 21), -1e9, dtype=torch.float64).triu(1)[None, None] if causal else None
    torch.testing.assert_close(layer(states), twin(states, mask=mask)[0])


def test_distances_beyond_the_largest_share_one_bias() -> None:
    for options in ({"distance_buckets": 8, "max_distance": 5}, {"distance_buckets": 32, "max_distance": 2}):
        layer = build_attention("t5", dim=DIM, heads=HEADS, causal=True, **options)
        now, past = torch.tensor([60]), torch.arange(61)
        bias = layer.core.position.bias(torch.zeros(1, HEADS, 1, 4), now, past)[0, :, 0]
        far = bias[:, : 61 - options["max_distance"]]
        assert (far == far[:, :1]).all()
        near = bias[:, 61 - options["max_distance"] :]
        assert (near[:, -1] != far[:, 0]).all()


@pytest.mark.parametrize("causal", [True, False])
def test_groups_of_positions_get_the_bias_of_the_whole(causal: bool) -> None:
    """As backends call it that see only some keys: groups of queries, with keys of their own in each head."""
    position = build_attention(
        "t5", dim=DIM, heads=HEADS, distance_buckets=8, max_distance=20, causal=causal
    ).core.position
    length, groups = 24, 3
    whole = position.bias(torch.zeros(1, HEADS, length, 4), torch.arange(length), torch.arange(length))[0]
    query = torch.randint(length, (groups, 5))
    grouped = torch.zeros(1, HEADS, groups, 5, 4)
    for key in (torch.randint(length, (groups, 7)), torch.randint(length, (HEADS, groups, 7))):
        bias = position.bias(grouped, query, key)
        for head in range(HEADS):
            for group in range(groups):
                keys = key[group] if key.ndim == 2 else key[head, group]
                expected = whole[head][query[group].unsqueeze(1), keys]
                torch.testing.assert_close(bias[0, head, group], expected, rtol=0, atol=0)
