"""Longformer: transformers' module with the same weights, and its cost."""

from __future__ import annotations

import pytest
import torch

from attnbuild import ConfigError, build_attention
from attnbuild.initialisation import initialise

DIM, HEADS = 16, 4


def as_transformers(layer: torch.nn.Module, window: int) -> torch.nn.Module:
    """LongformerSelfAttention with the layer's weights."""
    modeling = pytest.importorskip("transformers.models.longformer.modeling_longformer")
    from transformers import LongformerConfig

    config = LongformerConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        attention_window=[2 * window],
        num_hidden_layers=1,
        attention_probs_dropout_prob=0.0,
    )
    twin = modeling.LongformerSelfAttention(config, layer_id=0).double().eval()
    for name in ("query", "key", "value"):
        getattr(twin, name).load_state_dict(getattr(layer.core, name).state_dict())
        getattr(twin, f"{name}_global").load_state_dict(getattr(layer.core, f"global_{name}").state_dict())
    return twin


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(("window", "global_tokens"), [(2, 1), (4, 3), (8, 8)])
def test_equals_transformers(window: int, global_tokens: int, need_weights: bool) -> None:
    torch.manual_seed(0)
    layer = build_attention("longformer", dim=DIM, heads=HEADS, window=window, global_tokens=global_tokens).double()
    for parameter in layer.core.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.eye_(layer.out_projection.weight)
    length, real = 16 * window, 16 * window - 5
    states = torch.randn(2, length, DIM, dtype=torch.float64)
    padding = torch.arange(length) >= torch.tensor([[length], [real]])
    # Their mask: negative = padding, positive = global.
    mask = torch.where(padding, -10000.0, 0.0).double()
    mask[:, :global_tokens] = 10000.0
    (expected,) = as_transformers(layer, window)(
        states,
        attention_mask=mask,
        is_index_masked=mask < 0,
        is_index_global_attn=mask > 0,
        is_global_attn=True,
    )[:1]
    output = layer(states, key_padding_mask=padding, need_weights=need_weights)
    output = output[0] if isinstance(output, tuple) else output
    # Theirs takes the softmax in fp32.
    torch.testing.assert_close(output[~padding], expected[~padding], rtol=1e-5, atol=1e-6)


def test_longer_than_the_crossing_equals_the_weighted_form() -> None:
    torch.manual_seed(0)
    layer = build_attention("longformer", dim=DIM, heads=HEADS, kv_heads=2, window=3, dilation=2, global_tokens=2)
    states = torch.randn(2, 1500, DIM)
    padding = torch.arange(1500) >= torch.tensor([[1500], [700]])
    fast = layer(states, key_padding_mask=padding)
    slow, _ = layer(states, key_padding_mask=padding, need_weights=True)
    torch.testing.assert_close(fast[~padding], slow[~padding], rtol=1e-4, atol=1e-5)


def test_the_global_projections_start_as_copies() -> None:
    core = build_attention("longformer", dim=DIM).core
    for how in (None, "normal", "xavier"):
        if how:
            initialise(core, how)
        for name in ("query", "key", "value"):
            twin, one = getattr(core, f"global_{name}"), getattr(core, name)
            assert twin.weight is not one.weight
            torch.testing.assert_close(twin.state_dict(), one.state_dict(), rtol=0, atol=0)


def test_causal_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"show the future; use window, or bigbird"):
        build_attention("longformer", dim=DIM, causal=True)
