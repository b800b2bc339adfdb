"""The Transformer encoder with and without a class token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbuild.encoders.base import Encoder
from attnbuild.memory import masked_mean
from tests.encoders.places import Maker, encoder, text

SMALL = {"dim": 8, "layers": 2, "feedforward": 16}


def build(preset: str | Maker = "multihead", **options: object) -> Encoder:
    return encoder(text(), preset, type="transformer", **{**SMALL, **options})


def sentences() -> Tensor:
    return torch.tensor([[4, 5, 6, 7, 2], [8, 9, 2, 0, 0]])


def test_without_a_class_token_the_summary_is_the_mean() -> None:
    plain = build()
    memory = plain(sentences())
    assert not plain.own_summary
    torch.testing.assert_close(memory.summary, masked_mean(memory.states, memory.key_padding_mask))


def test_a_class_token_is_the_summary_and_no_state() -> None:
    classing = build(class_token=True)
    memory = classing(sentences())
    assert classing.own_summary
    assert memory.states.shape == (2, 5, 8)
    assert torch.equal(memory.key_padding_mask, sentences() == 0)
    joined = torch.cat([classing.class_token.expand(2, 1, -1), classing.embedding(sentences())], dim=1)
    mask = torch.nn.functional.pad(sentences() == 0, (1, 0), value=False)
    for layer in classing.layers:
        joined, _ = layer(joined, mask)
    joined = classing.norm(joined)
    torch.testing.assert_close(memory.summary, joined[:, 0])
    torch.testing.assert_close(memory.states, joined[:, 1:])


def test_the_class_token_reads_the_text_and_not_its_padding() -> None:
    classing = build(class_token=True)
    summary = classing(sentences()).summary
    other = sentences()
    other[1, 0] = 10
    assert not torch.allclose(classing(other).summary[1], summary[1])
    longer = torch.nn.functional.pad(sentences(), (0, 3))
    torch.testing.assert_close(classing(longer).summary, summary)


@pytest.mark.parametrize("class_token", [False, True])
def test_every_parameter_gets_a_gradient(class_token: bool) -> None:
    model = build(class_token=class_token).train()
    memory = model(sentences())
    (memory.summary.square().sum() + memory.states.square().sum()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("class_token", [False, True])
def test_choices_of_sampled_attentions_go_up(class_token: bool) -> None:
    model = build("hard", class_token=class_token).train()
    assert len(model(sentences()).choices) == SMALL["layers"]
