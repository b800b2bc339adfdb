"""What decoding remembers: selecting rows and sentences by the tags of the fields."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attnbuild.attention.state import State, per_row, per_sentence


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


def test_an_untagged_tensor_is_refused() -> None:
    @dataclass
    class Forgotten(State):
        key: Tensor

    with pytest.raises(TypeError, match=r"Forgotten.key is a tensor: tag it per_row or per_sentence"):
        Forgotten(torch.zeros(2)).select(rows=torch.tensor([1, 0]))
