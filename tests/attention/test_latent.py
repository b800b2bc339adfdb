"""Latent attention: the paper's equations in loops, DeepSeek's own module, and steps that never form a head's keys."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbuild import ConfigError, build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.memory import Memory

B, N, S, D, HEADS, RANK, ROPE = 2, 5, 6, 24, 3, 10, 4


def layer_of(**options: object) -> AttentionBlock:
    torch.manual_seed(0)
    chosen = {"heads": HEADS, "rank": RANK, "rope_dim": ROPE, **options}
    layer = build_attention("latent", dim=D, **chosen).double()
    for name, parameter in layer.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter)
    return layer


def states(rows: int, count: int, width: int = D, seed: int = 1) -> Tensor:
    return torch.randn(rows, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms_norm(vector: Tensor, gain: Tensor) -> Tensor:
    return vector / (vector.square().mean() + 1e-6).sqrt() * gain


def turned(vector: Tensor, position: int, base: float) -> Tensor:
    """RoPE (Su et al. 2021, equation 34), pair by pair."""
    result = torch.empty_like(vector)
    for pair in range(len(vector) // 2):
        angle = position * base ** (-2 * pair / len(vector))
        x, y = vector[2 * pair], vector[2 * pair + 1]
        result[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
        result[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)
    return result


@pytest.mark.parametrize("query_rank", [None, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_it_equals_the_paper(causal: bool, query_rank: int | None) -> None:
    """Equations 9 to 19, head by head and position by position."""
    layer = layer_of(causal=causal, query_rank=query_rank, rope_base=50.0)
    core, h, width = layer.core, states(B, N), D // HEADS
    padding = torch.arange(N) >= torch.tensor([[N], [3]])
    expected = torch.zeros(B, N, D, dtype=torch.float64)
    for b in range(B):
        latent, asked, shared = [], [], []
        for t in range(N):
            latent.append(rms_norm(core.key_value_down.weight @ h[b, t], core.key_value_norm.weight))  # 9
            shared.append(turned(core.key_rope.weight @ h[b, t], t, 50.0))  # 15
            if query_rank is None:
                asked.append(h[b, t])
            else:
                down, norm = core.query_down
                asked.append(rms_norm(down.weight @ h[b, t], norm.weight))  # 12
        for i in range(HEADS):
            part, rope_part = slice(i * width, (i + 1) * width), slice(i * ROPE, (i + 1) * ROPE)
            for t in range(N):
                query = torch.cat(
                    [
                        core.query_up.weight[part] @ asked[t],
                        turned(core.query_rope.weight[rope_part] @ asked[t], t, 50.0),
                    ]
                )  # 13, 14, 16
                seen = [j for j in range(N) if not padding[b, j] and (j <= t or not causal)]
                keys = [torch.cat([core.key_up.weight[part] @ latent[j], shared[j]]) for j in seen]  # 10, 17
                scores = torch.stack([query @ key for key in keys]) / math.sqrt(width + ROPE)
                for weight, j in zip(scores.softmax(0), seen, strict=True):  # 18
                    expected[b, t, part] += weight * (core.value_up.weight[part] @ latent[j])  # 11
    expected = layer.out_projection(expected)  # 19
    torch.testing.assert_close(layer(h, key_padding_mask=padding), expected)
    torch.testing.assert_close(layer(h, key_padding_mask=padding, need_weights=True)[0], expected)


@pytest.mark.parametrize("query_rank", [None, 7])
def test_it_equals_deepseek_v2_in_transformers(query_rank: int | None) -> None:
    """The module of transformers with the same weights: normalised latent vectors, pairs turned side by side."""
    from transformers.models.deepseek_v2 import modeling_deepseek_v2 as peer

    width = D // HEADS
    config = peer.DeepseekV2Config(
        hidden_size=D,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        q_lora_rank=query_rank,
        kv_lora_rank=RANK,
        qk_nope_head_dim=width,
        qk_rope_head_dim=ROPE,
        v_head_dim=width,
        head_dim=ROPE,
        attention_bias=False,
        attn_implementation="eager",
    )
    theirs = peer.DeepseekV2Attention(config, 0).double().eval()
    layer = layer_of(causal=True, query_rank=query_rank, bias=False)
    core, query_parts = layer.core, []
    for i in range(HEADS):
        query_parts += [
            core.query_up.weight[i * width : (i + 1) * width],
            core.query_rope.weight[i * ROPE : (i + 1) * ROPE],
        ]
    if query_rank is None:
        theirs.q_proj.weight.data = torch.cat(query_parts)
    else:
        theirs.q_a_proj.weight.data = core.query_down[0].weight
        theirs.q_a_layernorm.weight.data = core.query_down[1].weight
        theirs.q_b_proj.weight.data = torch.cat(query_parts)
    theirs.kv_a_proj_with_mqa.weight.data = torch.cat([core.key_value_down.weight, core.key_rope.weight])
    theirs.kv_a_layernorm.weight.data = core.key_value_norm.weight
    both = [matrix.weight.unflatten(0, (HEADS, width)) for matrix in (core.key_up, core.value_up)]
    theirs.kv_b_proj.weight.data = torch.cat(both, dim=1).flatten(0, 1)
    theirs.o_proj.weight.data = layer.out_projection.weight
    h = states(B, N)
    places = torch.arange(N).unsqueeze(0).expand(B, -1)
    mask = torch.full((N, N), -torch.inf, dtype=torch.float64).triu(1).expand(B, 1, N, N)
    angles = peer.DeepseekV2RotaryEmbedding(config)(h, places)
    expected, _ = theirs(h, attention_mask=mask, position_embeddings=angles)
    # Their rotation is in fp32.
    torch.testing.assert_close(layer(h), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [HEADS, 1])
def test_absorbed_steps_equal_the_plain_form_and_remember_only_the_latents(kv_heads: int) -> None:
    layer = layer_of(causal=True, kv_heads=kv_heads)
    h = states(B, N)
    whole, weights = layer(h, need_weights=True)
    state = layer.start(Memory(h, None, h[:, 0]))
    for t in range(N):
        attended, state = layer.step(h[:, t : t + 1], state, B, need_weights=True)
        torch.testing.assert_close(attended.values, whole[:, t : t + 1])
        torch.testing.assert_close(attended.weights, weights[:, :, t : t + 1, : t + 1])
        remembered = {name: tuple(tensor.shape) for name, tensor in vars(state).items()}
        assert remembered == {"latent": (B, t + 1, RANK), "rope": (B, t + 1, ROPE)}


def test_a_step_forms_no_keys_of_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(causal=True)
    h = states(B, 2)
    _, state = layer.step(h[:, :1], layer.start(Memory(h, None, h[:, 0])), B)
    monkeypatch.setattr(type(layer.core), "_up", None)
    layer.step(h[:, 1:], state, B)


def test_cross_attention_has_no_places_and_remembers_the_latents_once_a_sentence() -> None:
    layer = layer_of(memory_dim=16)
    assert not any("rope" in name for name, _ in layer.named_parameters())
    assert layer.core.scale == (D // HEADS) ** -0.5
    query, memory = states(B, N), states(B, S, 16, seed=2)
    padding = torch.arange(S) >= torch.tensor([[S], [4]])
    state = layer.start(Memory(memory, padding, memory[:, 0]))
    assert tuple(state.latent.shape) == (B, S, RANK)
    # No place: to shuffle the memory changes nothing.
    order = torch.randperm(S, generator=torch.Generator().manual_seed(0))
    shuffled = layer(query, memory[:, order], key_padding_mask=padding[:, order])
    torch.testing.assert_close(layer(query, memory, key_padding_mask=padding), shuffled)


@pytest.mark.parametrize("causal", [False, True])
def test_without_positions_self_attention_has_none(causal: bool) -> None:
    layer = layer_of(rope_dim=0, causal=causal)
    assert not any("rope" in name for name, _ in layer.named_parameters())
    h = states(1, 1).expand(1, N, D)
    torch.testing.assert_close(layer(h), layer(h)[:, :1].expand(1, N, D))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dropout_is_for_training_alone(dropout: float) -> None:
    layer, h = layer_of(causal=True, dropout=dropout), states(B, N)
    torch.testing.assert_close(layer.eval()(h), layer(h))
    moved = (layer.train()(h) - layer.eval()(h)).abs().max()
    assert (moved > 1e-3) == (dropout > 0)


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="rope_dim.*3: RoPE turns pairs of channels"):
        layer_of(rope_dim=3)
    with pytest.raises(ConfigError, match="matrices of its own: set projections=all"):
        layer_of(heads=1, projections="none")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_single(dtype: torch.dtype) -> None:
    layer, h = layer_of(causal=True).float(), states(B, N).float()
    expected = layer(h)
    torch.testing.assert_close(layer.to(dtype)(h.to(dtype)).float(), expected, rtol=0.1, atol=0.1)
