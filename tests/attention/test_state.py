"""What decoding remembers: selecting rows and sentences by the tags of the fields."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.state import State, per_row, per_sentence
from attnbuild.memory import Memory


@dataclass
class Inner(State):
    rows: Tensor = per_row()
    sentences: Tensor | None = per_sentence(default=None)


@dataclass
class Outer(State):
    inner: Inner
    layers: list[Inner]
    step: int = 0


def test_select_reaches_nested_states_and_lists_by_tag() -> None:
    inner = Inner(torch.arange(4), torch.arange(2))
    chosen = Outer(inner, [inner, Inner(torch.arange(4) + 10)], 3).select(
        rows=torch.tensor([3, 3]), sentences=torch.tensor([1])
    )
    assert chosen.inner.rows.tolist() == chosen.layers[0].rows.tolist() == [3, 3]
    assert chosen.layers[1].rows.tolist() == [13, 13]
    assert chosen.layers[1].sentences is None
    assert chosen.inner.sentences is not None
    assert chosen.inner.sentences.tolist() == [1]
    assert chosen.step == 3
    assert inner.rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("preset", ["multihead", "latent"])
def test_autocast_remembers_in_its_own_precision(preset: str) -> None:
    """What is begun like the encoder's fp32 states holds what projections under autocast make."""
    layer = build_attention(preset, dim=16, causal=True)
    states = torch.randn(2, 3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, state = layer(states), layer.start(Memory(states, None, states[:, 0]))
        for step in range(3):
            attended, state = layer.step(states[:, step : step + 1], state, 2)
            torch.testing.assert_close(attended.values, whole[:, step : step + 1], rtol=0.05, atol=0.05)
    assert {tensor.dtype for tensor in vars(state).values() if isinstance(tensor, Tensor)} == {torch.bfloat16}


@pytest.mark.parametrize("pair", [(torch.zeros(2), torch.zeros(2)), {"key": torch.zeros(2)}, (Inner(torch.zeros(2)),)])
def test_tensors_in_a_tuple_or_dict_are_refused(pair: object) -> None:
    """A tag says nothing of what is in them."""

    @dataclass
    class Pair(State):
        pair: object = per_row()

    with pytest.raises(TypeError, match=r"Pair.pair holds tensors in a (tuple|dict): make it a State"):
        Pair(pair).select(rows=torch.tensor([1, 0]))
    assert Pair((3, 4)).select(rows=torch.tensor([1])).pair == (3, 4)


def test_an_untagged_tensor_is_refused() -> None:
    @dataclass
    class Forgotten(State):
        key: Tensor

    with pytest.raises(TypeError, match=r"Forgotten.key is a tensor: tag it per_row or per_sentence"):
        Forgotten(torch.zeros(2)).select(rows=torch.tensor([1, 0]))
