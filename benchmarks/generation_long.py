"""What a decoder remembers of a long output: bytes of its state, and of one step, as the output grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from runs import model_of
from torch import Tensor

from attnbuild.attention.state import State
from attnbuild.measure.memory import measure_memory

__all__ = ["DECODERS", "growth"]

VOCABULARY, SOURCE = 8000, 64
MODEL = ("model.dim=256", "decoder.layers=3", "decoder.feedforward=1024", "encoder.layers=1")

#: Self-attention of a decoder -> lengths at which it is looked at; remembering all, 16,384 steps would take minutes.
DECODERS = {"window": (1024, 4096, 16384), "linear": (1024, 4096, 16384), "multihead": (1024, 4096)}


@torch.no_grad()
def growth(attention: str, lengths: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Length of the output -> bytes of the state, and peak bytes of the step after it."""
    words = [*MODEL, f"decoder/self_attention={attention}"]
    words += ["decoder.self_attention.window=128"] if attention == "window" else []
    model = model_of(words, VOCABULARY).eval()
    state = model.start(torch.randint(4, VOCABULARY, (1, SOURCE)))
    found = {}
    for length in range(1, max(lengths) + 1):
        token = torch.tensor([4 + length % (VOCABULARY - 4)])
        state = model.generator.step(token, state).state
        if length in lengths:
            held = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state))
            found[length] = (held, measure_memory(lambda: model.generator.step(token, state)).peak)  # noqa: B023
    return found


def _tensors(state: State) -> Iterator[Tensor]:
    """Those of a state and of the states in it."""
    for item in dataclasses.fields(state):
        value: Any = getattr(state, item.name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Tensor):
                yield part
            elif isinstance(part, State):
                yield from _tensors(part)
