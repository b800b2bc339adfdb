"""The cost of every preset at every kind of place, as ``attnbuild show`` counts it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attnbuild import build_attention
from attnbuild.measure.places import cost_by_place
from attnbuild.memory import Memory
from tests.properties.cases import CLAIMED, KINDS

DIM, ROWS, LENGTH = 24, 2, 6


class Model(nn.Module):
    """One attention, called as a model calls it, between two linear layers."""

    def __init__(self, preset: str, kind: str) -> None:
        super().__init__()
        place = KINDS[kind]
        memory_dim = DIM if place.cross else None
        self.block = build_attention(
            preset,
            dim=DIM,
            memory_dim=memory_dim,
            causal=place.causal,
            sequential=place.sequential,
            grid=(2, LENGTH // 2) if place.cells else None,
        )
        self.before, self.after = nn.Linear(DIM, DIM), nn.Linear(self.block.out_dim, 1)
        self.stepwise = place.sequential

    def forward(self, states: Tensor) -> Tensor:
        query = self.before(states)
        memory = Memory(query if not self.block.place.cross else 2 * query, None, query[:, 0])
        if not self.stepwise:
            return self.after(self.block.attend(query, memory).values).sum()
        state, values = self.block.start(memory), []
        for step in range(LENGTH):
            attended, state = self.block.step(query[:, step : step + 1], state, ROWS)
            values.append(attended.values)
        return self.after(torch.cat(values, dim=1)).sum()


CASES = sorted({*CLAIMED, ("bahdanau", "recurrent"), ("multihead", "recurrent")})


@pytest.mark.parametrize(("preset", "kind"), CASES, ids=["-".join(case) for case in CASES])
def test_cost_by_place(preset: str, kind: str) -> None:
    model, states = Model(preset, kind), torch.randn(ROWS, LENGTH, DIM)
    whole, places = cost_by_place(model, lambda: model(states))
    (cost,) = places.values()
    linear = 2 * ROWS * LENGTH * DIM * (DIM + 1)
    assert cost.forward == whole.forward - linear, "the parts are the whole"
    assert cost.backward <= whole.backward
    assert cost.peak > 0 or preset == "none"  # which hands on a view of the summary
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "attend" not in vars(model.block), "the block is as it was"


def test_layers_of_a_place_add_up() -> None:
    model = nn.ModuleList(Model("multihead", "self") for _ in range(2))
    states = torch.randn(ROWS, LENGTH, DIM)
    one = cost_by_place(model[0], lambda: model[0](states))[1]["attention"]
    both = cost_by_place(model, lambda: model[0](states) + model[1](states))[1]["attention"]
    assert (both.forward, both.kept, both.peak) == (2 * one.forward, 2 * one.kept, one.peak)
