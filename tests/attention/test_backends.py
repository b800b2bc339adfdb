"""Which backend runs what, and which is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnbuild import ConfigError, build_attention
from attnbuild.attention.backends import reference, sdpa
from attnbuild.attention.backends.choose import BACKENDS, choose
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec


def chosen(preset: str, length: int, device: str = "cpu", **options: object) -> str:
    need = build_attention(preset, dim=64, **options).core.need()
    return choose(replace(need, device=device, queries=length, keys=length, gradient=True)).name


def test_auto_goes_by_length_and_parts() -> None:
    assert chosen("multihead", 4096) == "sdpa"
    assert chosen("window", 32) == "sdpa"
    assert chosen("window", 4096) == "blocksparse"
    assert chosen("window", 4096, window=4000) == "sdpa"
    assert chosen("window", 4096, position="t5") == "blocksparse"
    assert chosen("entmax15", 4096) == "reference"
    assert chosen("window", 4096, score="additive") == "reference"


def test_auto_takes_plain_products_where_few_keys_learn() -> None:
    need = replace(build_attention("multihead", dim=64).core.need(), device="cpu", queries=12, keys=20, gradient=True)
    assert choose(need).name == "reference"
    assert choose(replace(need, gradient=False)).name == "sdpa"
    assert choose(replace(need, keys=200)).name == "sdpa"
    assert choose(replace(need, device="cuda")).name == "sdpa"


def test_auto_takes_flex_only_where_it_runs() -> None:
    assert chosen("window", 4096, "cuda") == "flex"
    assert chosen("window", 4096, "cuda", position="alibi") == "blocksparse"
    assert chosen("window", 4096, "cuda", heads=16) == "blocksparse"
    assert chosen("window", 4096, "cpu") != "flex"


@pytest.mark.parametrize(
    ("backend", "options", "words"),
    [
        ("sdpa", {"score": "additive"}, "needs a dot-like score"),
        ("sdpa", {"weighting": "sparsemax"}, "its weighting is softmax"),
        ("blocksparse", {}, "every query may see every key"),
        ("blocksparse", {"pattern": "window", "score": "additive"}, "the score is no product"),
        ("blocksparse", {"pattern": "window", "weighting": "topk"}, "the weighting is not softmax"),
        ("flex", {"pattern": "window", "position": "t5"}, "the position adds a bias"),
        ("flex", {"pattern": "window", "heads": 8}, "heads must be 16, 32"),
    ],
)
def test_a_backend_that_cannot_serve_is_refused_with_the_reason(
    backend: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=f"{backend}' cannot serve here: .*{words}"):
        build_attention("multihead", dim=64, backend=backend, **options)


@pytest.mark.parametrize("weighting", ["softmax", "topk", "entmax15"])
def test_fp16_ends_with_the_scores_and_not_with_the_products(weighting: str) -> None:
    """Scores of up to 16000 of products of up to 128000, which fp16 has no number for."""
    layer = build_attention("multihead", dim=64, heads=1, weighting=weighting, projections="none").half()
    states = torch.full((1, 3, 64), 0.0).half()
    states[0, 0], states[0, 1, 0] = 45.0, 1.0
    values, _ = layer(states, need_weights=True)
    assert values.isfinite().all()
    torch.testing.assert_close(values[0, 0], states[0, 0])
    torch.testing.assert_close(layer(states), values)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_backends_take_the_same_call(backend: str) -> None:
    """Each has ``refusal`` and ``run``; single queries, which sparse ones leave to the dense, are no exception."""
    torch.manual_seed(0)
    layer = build_attention("window", dim=32, heads=2, backend=backend, causal=True, window=3)
    plain = build_attention("window", dim=32, heads=2, backend="reference", causal=True, window=3)
    plain.load_state_dict(layer.state_dict())
    states = torch.randn(2, 1, 32, requires_grad=True)
    torch.testing.assert_close(layer(states), plain(states))


def test_linear_memory_is_claimed_where_it_is_kept() -> None:
    def claim(**options: object) -> bool:
        return AttentionSpec.from_config({**load_preset("window"), **options}).capabilities.linear_memory

    assert claim()
    assert claim(position="t5")
    assert not claim(score="additive")
    assert not claim(weighting="topk")
    assert not claim(backend="sdpa")


@pytest.mark.parametrize("module", [reference, sdpa])
def test_dense_ones_serve_the_plain_case(module: object) -> None:
    assert module.refusal(build_attention("multihead", dim=16).core.need()) is None  # type: ignore[attr-defined]


def test_another_backend_than_the_named_one_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    layer = build_attention("window", dim=32, heads=2, backend="flex", dropout=0.1, causal=True)
    states = torch.randn(1, 20, 32)
    for _ in range(2):
        layer.train()(states)
    (told,) = caplog.messages
    assert "attention: backend 'flex' cannot serve here" in told
    caplog.clear()
    build_attention("window", dim=32, heads=2, backend="blocksparse")(states)
    assert not caplog.messages
