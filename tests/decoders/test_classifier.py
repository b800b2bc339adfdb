"""The decoder that gives labels: its poolings against plain formulas, and every attention that can pool."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attnbuild import ConfigError
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.presets import load_preset
from attnbuild.decoders.base import DecoderPlace
from attnbuild.decoders.classifier import Classifier
from attnbuild.memory import Memory
from attnbuild.paths import conf_dir
from attnbuild.registry import build, check_part, lookup, options_of
from tests.decoders.parts import DIM, maker, memory_of, rows_of, serving, with_more_padding

KIND = PlaceKind(cross=True)
PRESETS = serving(KIND)
LABELS = 5


def classifier_of(preset: str = "multihead", chosen: dict[str, Any] | None = None, **options: Any) -> Classifier:
    """``chosen`` are options of the attention."""
    torch.manual_seed(0)
    place = DecoderPlace(LABELS, DIM, maker(preset, KIND, **(chosen or {})), own_summary=True)
    return Classifier(place, **{"dim": DIM, "dropout": 0.0, **options}).double().eval()


def test_attention_pooling_is_that_of_hierarchical_attention_networks() -> None:
    """Yang et al. 2016, equations 5 to 7, with the scorer of Bahdanau et al.: one vector asks how much a word counts."""
    model, lengths = classifier_of("bahdanau", dim=7, hidden=6), [5, 2]
    memory = memory_of(lengths, 5)
    decoded = model(memory, need_weights=True)
    score = model.attention.core.score
    for row, length in enumerate(lengths):
        words = memory.states[row, :length]
        rated = torch.tanh(model.query @ score.query_weight[0] + words @ score.key_weight[0]) @ score.vector[0]
        weights = rated.squeeze(1).exp() / rated.exp().sum()
        hidden = torch.tanh(F.linear(weights @ words, model.hidden[0].weight, model.hidden[0].bias))
        torch.testing.assert_close(decoded.logits[row], model.output.weight @ hidden + model.output.bias)
        torch.testing.assert_close(decoded.weights[row, 0, 0, :length], weights)
    assert decoded.weights.shape == (2, 1, 1, 5)
    assert (decoded.weights[1, :, :, 2:] == 0).all()


def test_multihead_pooling_equals_that_of_torch() -> None:
    model, memory = classifier_of("multihead", {"heads": 3}), memory_of([6, 4, 1], 6)
    block = model.attention
    theirs = nn.MultiheadAttention(DIM, 3, batch_first=True).double()
    with torch.no_grad():
        for part, weight, bias in zip(
            (block.query_projection, block.key_projection, block.value_projection),
            theirs.in_proj_weight.chunk(3),
            theirs.in_proj_bias.chunk(3),
            strict=True,
        ):
            weight.copy_(part.weight)
            bias.copy_(part.bias.normal_())
        theirs.out_proj.load_state_dict(block.out_projection.state_dict())
    query = model.query.expand(3, 1, -1)
    pooled, weights = theirs(
        query, memory.states, memory.states, key_padding_mask=memory.key_padding_mask, average_attn_weights=False
    )
    decoded = model(memory, need_weights=True)
    torch.testing.assert_close(decoded.logits, model.output(pooled.squeeze(1)))
    torch.testing.assert_close(decoded.weights, weights)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_the_other_poolings_are_what_they_are_named(pooling: str, activation: str) -> None:
    model, lengths = classifier_of(pooling=pooling, hidden=6, activation=activation), [5, 2, 1]
    memory = memory_of(lengths, 5)
    memory.summary = torch.randn_like(memory.summary)
    decoded = model(memory, need_weights=True)
    for row, length in enumerate(lengths):
        real = memory.states[row, :length]
        pooled = {"mean": real.sum(0) / length, "max": real.max(0).values, "cls": memory.summary[row]}[pooling]
        hidden = {"tanh": torch.tanh, "gelu": F.gelu}[activation](model.hidden[0](pooled))
        torch.testing.assert_close(decoded.logits[row], model.output(hidden))
    assert decoded.weights is None
    assert decoded.choices == []


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_a_memory_without_padding_is_one_whose_padding_is_empty(pooling: str) -> None:
    model, memory = classifier_of(pooling=pooling), memory_of([4, 4], 4)
    bare = Memory(memory.states, None, memory.summary)
    torch.testing.assert_close(model(bare).logits, model(memory).logits)


# Every attention

CASES = [pytest.param(preset, {}, id=preset) for preset in PRESETS]
CASES += [
    pytest.param("multihead", {"pooling": pooling, "hidden": hidden}, id=f"{pooling}-{hidden}")
    for pooling in ("mean", "max", "cls")
    for hidden in (None, 4)
]


@pytest.mark.parametrize(("preset", "options"), CASES)
def test_every_parameter_learns_and_an_empty_row_is_harmless(preset: str, options: dict[str, Any]) -> None:
    model, memory = classifier_of(preset, **options).train(), memory_of([5, 3, 0], 5)
    memory.states.requires_grad_()
    decoded = model(memory)
    loss = (decoded.logits * torch.randn_like(decoded.logits)).sum()
    assert len(decoded.choices) == ("pooling" not in options and load_preset(preset)["type"] == "hard")
    for choice in decoded.choices:
        assert choice.log_prob.shape == (3, 1)
        loss = loss + choice.loss(torch.randn(3, dtype=loss.dtype))
    loss.backward()
    assert decoded.logits.shape == (3, LABELS)
    assert decoded.logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert memory.states.grad is None or memory.states.grad.isfinite().all()
    if model.query is not None:
        assert model.query.grad.abs().max() > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_weights_are_of_the_one_query(preset: str) -> None:
    model, memory = classifier_of(preset), memory_of([5, 3, 0], 5)
    decoded, can = model(memory, need_weights=True), model.attention.spec.capabilities
    torch.testing.assert_close(decoded.logits, model(memory).logits)
    assert (decoded.weights is None) == (can.weights == "none")
    if decoded.weights is not None:
        assert decoded.weights.shape == (3, model.attention.heads, 1, 5)
        if can.weights == "distribution":
            sums = decoded.weights.sum(dim=-1)
            torch.testing.assert_close(
                sums, torch.tensor([1.0, 1.0, 0.0], dtype=sums.dtype).view(3, 1, 1).expand_as(sums)
            )


@settings(max_examples=60)
@given(
    pooling=st.sampled_from(["attention", "attention", "mean", "max", "cls"]),
    preset=st.sampled_from(PRESETS),
    hidden=st.sampled_from([None, 4]),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_padding_changes_nothing_and_a_batch_equals_its_rows(
    pooling: str, preset: str, hidden: int | None, lengths: list[int], seed: int
) -> None:
    model, memory = classifier_of(preset, pooling=pooling, hidden=hidden), memory_of(lengths, 6, seed=seed)
    whole = model(memory).logits
    assert whole.isfinite().all()
    torch.testing.assert_close(model(with_more_padding(memory)).logits, whole)
    for row in range(len(lengths)):
        part = slice(row, row + 1)
        torch.testing.assert_close(model(rows_of(memory, part)).logits, whole[part])


def test_the_one_query_stands_at_the_first_position() -> None:
    """So local_m sees the first window + 1 keys; local_p finds a place of its own, a share of the length."""
    memory = memory_of([9], 9)
    seen = classifier_of("local_m", {"window": 2})(memory, need_weights=True).weights[0, 0, 0] > 0
    assert seen.tolist() == [True] * 3 + [False] * 6
    model = classifier_of("local_p", {"window": 2})
    core = model.attention.core
    share = torch.sigmoid(torch.tanh(model.query @ core.hidden_weight[0]) @ core.vector[0]).item()
    seen = model(memory, need_weights=True).weights[0, 0, 0] > 0
    assert seen.tolist() == [abs(key - 9 * share) <= 2 for key in range(9)]


def test_an_attention_that_needs_more_than_one_query_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match="weights of the step before, so only a recurrent decoder"):
        classifier_of("location_aware")
    with pytest.raises(ConfigError, match="follows the query's own position"):
        classifier_of("window")


# What the builder asks


def test_it_has_a_place_for_attention_only_where_attention_pools() -> None:
    assert dict(Classifier.places_for({})) == {"cross_attention": KIND}
    assert dict(Classifier.places_for({"pooling": "attention"})) == {"cross_attention": KIND}
    for pooling in ("mean", "max", "cls"):
        assert Classifier.places_for({"pooling": pooling}) == {}
        assert not hasattr(classifier_of(pooling=pooling).attention, "core")


def test_cls_needs_an_encoder_with_a_summary_of_its_own() -> None:
    place = DecoderPlace(LABELS, DIM, maker("multihead", KIND), own_summary=False)
    with pytest.raises(ConfigError, match="no class token: choose 'mean', or set encoder.class_token=true") as raised:
        build("decoder", place, {"type": "classifier", "pooling": "cls"}, "decoder")
    assert [problem.path for problem in raised.value.problems] == ["decoder.pooling"]
    assert build("decoder", place, {"type": "classifier", "pooling": "mean"}, "decoder").pooling == "mean"


def test_bad_options_are_told_by_their_paths() -> None:
    problems = check_part("decoder", {"type": "classifier", "pooling": "sum", "hidden": 0, "dropout": 1.0}, "decoder")
    assert [problem.path for problem in problems] == ["decoder.pooling", "decoder.hidden", "decoder.dropout"]


@pytest.mark.parametrize("name", ["classifier", "rnn", "transformer"])
def test_the_shipped_file_shows_every_option_and_explains_it(name: str) -> None:
    text = (conf_dir() / "decoder" / f"{name}.yaml").read_text(encoding="utf-8")
    decoder = lookup("decoder", name)
    shown = {key for key in yaml.safe_load(text) if not key.endswith("_by_layer")}
    assert shown == {"type", *options_of(decoder), *decoder.places}
    assert all("#" in line for line in text.splitlines() if not line.startswith("type:"))
