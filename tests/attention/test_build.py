"""The layer on its own: what a user of the Python interface meets."""

from __future__ import annotations

import re

import pytest
import torch

import attnbuild
from attnbuild import ConfigError, build_attention


def refusal(preset: object, **arguments: object) -> str:
    with pytest.raises(ConfigError) as error:
        build_attention(preset, **{"dim": 16, **arguments})  # type: ignore[arg-type]
    return str(error.value)


def test_the_documented_calls() -> None:
    query, memory = torch.randn(2, 5, 256), torch.randn(2, 7, 512)
    layer = attnbuild.build_attention("window", dim=256, heads=8, window=16, causal=True)
    assert isinstance(layer, torch.nn.Module)
    assert layer(query).shape == (2, 5, 256)
    layer = attnbuild.build_attention("multihead", dim=256, heads=8, memory_dim=512)
    mask = torch.zeros(2, 7, dtype=torch.bool)
    assert layer(query, memory, key_padding_mask=mask).shape == (2, 5, 256)
    out, weights = layer(query, memory, need_weights=True)
    assert weights.shape == (2, 8, 5, 7)
    torch.testing.assert_close(out, layer(query, memory))
    assert {"multihead", "bahdanau", "window", "none"} <= set(attnbuild.list_names("attention"))


def test_a_mapping_composes_what_no_preset_has() -> None:
    layer = build_attention({"score": "additive", "position": "alibi", "pattern": "window", "window": 2}, dim=16)
    assert layer(torch.randn(1, 4, 16)).shape == (1, 4, 16)


def test_raw_attention_keeps_the_width_of_the_memory() -> None:
    layer = build_attention("bahdanau", dim=16, memory_dim=24)
    assert layer.out_dim == 24
    assert layer(torch.randn(1, 3, 16), torch.randn(1, 4, 24)).shape == (1, 3, 24)


@pytest.mark.parametrize(
    ("preset", "arguments", "words"),
    [
        ("bahdanu", {}, "did you mean 'bahdanau'"),
        ("window", {"windw": 3}, "attention.windw.*unknown option of preset 'window'; did you mean 'window'"),
        ("multihead", {"heads": 3}, "attention.heads.*3 heads do not divide the width 16"),
        ("multihead", {"heads": 4, "kv_heads": 3}, "3 key heads do not divide 4"),
        ("multihead", {"heads": 0}, "heads.*0: input should be greater than or equal to 1"),
        ("multihead", {"heads": True}, "heads.*True"),
        ("multihead", {"heads": "8"}, "heads.*'8': input should be a valid integer"),
        ("multihead", {"dropout": 1.0}, "dropout.*less than 1"),
        (
            *("multihead", {"max_distance": 3}),
            "presets: relative, t5;\n *it belongs to position 'relative' and 't5', and position is 'none' here",
        ),
        (
            "multihead",
            {"window": 3},
            "an option of the presets: .*longformer, window;\n.*pattern 'dilated' and 'window'",
        ),
        (
            "linformer",
            {"window": 3},
            "option of preset 'linformer'; it is an option of the presets: dilated, .*, window$",
        ),
        (
            "bahdanau",
            {"max_len": 3},
            "presets: cosformer, linformer, luong_location;\n *it belongs to score 'location'",
        ),
        ("luong_dot", {"kernel": 3}, "it is an option of the preset: location_aware$"),
        ("multihead", {"score": "aditive"}, "unknown score 'aditive'; did you mean 'additive'"),
        ("bahdanau", {"position": "rope"}, "'rope' turns a product.*set score=cosine .*, or position=alibi"),
        ("bahdanau", {"heads": 2}, "without projections there is one head"),
        ("bahdanau", {"backend": "sdpa"}, "needs a dot-like score"),
        ("none", {"score": "dot", "memory_dim": 16}, "the core 'none'.*takes no score"),
        ("rope", {"heads": 16}, "pairs of channels.*1 wide"),
        ("luong_dot", {"memory_dim": 8}, "widths must be equal; they are 16 and 8"),
        ("window", {"memory_dim": 16}, "'window' cannot serve as cross-attention"),
        ("none", {}, "'none' cannot serve as self-attention"),
        ("multihead", {"memory_dim": 16, "causal": True}, "cross-attention has no order"),
        ({"type": "sofd"}, {}, "unknown core 'sofd'; did you mean 'soft'"),
        ({"type": "none"}, {"memory_dim": 16}, "attention.projections.*neither query nor key.*projections=none"),
        ("cosine", {"temperature": 500.0}, "temperature.*500.0: input should be less than or equal to 100"),
    ],
)
def test_refusals_say_what_and_what_instead(preset: object, arguments: dict, words: str) -> None:
    assert re.search(words, refusal(preset, **arguments), re.DOTALL)


def test_all_problems_are_told_together() -> None:
    message = refusal("window", heads=0, windw=3, dropout=-1.0)
    assert message.startswith("3 problems in the config:")


def test_calling_a_layer_for_what_it_was_not_built() -> None:
    with pytest.raises(ConfigError, match="built for self-attention: build it with memory_dim="):
        build_attention("multihead", dim=16)(torch.randn(1, 3, 16), torch.randn(1, 3, 16))
    with pytest.raises(ConfigError, match="built for cross-attention: call it with memory"):
        build_attention("multihead", dim=16, memory_dim=16)(torch.randn(1, 3, 16))


def test_a_mask_of_numbers_is_refused() -> None:
    """1 and 0 mean the opposite in other libraries; True says what it is."""
    with pytest.raises(ConfigError, match="must be bool, True = padding"):
        build_attention("multihead", dim=16)(torch.randn(1, 3, 16), key_padding_mask=torch.ones(1, 3))


@pytest.mark.parametrize("preset", attnbuild.list_names("attention"))
def test_every_preset_is_described(preset: str) -> None:
    told = attnbuild.attention.describe(preset)
    assert re.search(r"(19|20)\d\d", told["summary"]), "no paper named"
    assert all(option["help"] for option in told["options"]), "an option without help"


def test_the_cache_of_windowed_decoding_stays_constant() -> None:
    """The cache of a window drops what no later query can see."""
    from attnbuild.memory import Memory

    layer = build_attention("window", dim=16, window=3, causal=True)
    token = torch.randn(2, 1, 16)
    state = layer.start(Memory(token, None, token[:, 0]))
    for _ in range(10):
        _, state = layer.step(token, state, 2)
    assert state.key.shape[2] == 4
    assert state.length == 10


def test_a_preset_is_not_blamed_for_the_option_of_a_part_that_was_replaced() -> None:
    """rope_base stands in the file of ``rope``, and alibi has none."""
    layer = build_attention("rope", dim=16, position="alibi")
    assert layer.spec.parts["position"].name == "alibi"
    with pytest.raises(ConfigError, match="rope_base"):
        build_attention("rope", dim=16, position="alibi", rope_base=7.0)
