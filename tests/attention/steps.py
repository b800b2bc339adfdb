"""Decoding beams that differ, and change places, against attending to each beam's whole history."""

from __future__ import annotations

import torch
from torch import Tensor

from attnbuild.attention.block import AttentionBlock
from attnbuild.memory import Memory, masked_mean


def assert_beams_equal_their_histories(
    layer: AttentionBlock, memory: Tensor, padding: Tensor | None, steps: int = 5, beams: int = 3
) -> None:
    """Each step's value and weights of a beam are the last of what its history gives at once.

    Args:
        layer: for cross-attention.
        memory: (B, S, D).
        padding: (B, S).
        steps: how many tokens are decoded.
        beams: how many beams each sentence has; they are reordered at random, some dropped, some doubled.
    """
    generator = torch.Generator().manual_seed(0)
    sentences = memory.shape[0]
    rows = torch.arange(sentences).repeat_interleave(beams)
    state = layer.start(Memory(memory, padding, masked_mean(memory, padding))).select(rows=rows)
    history = torch.zeros(sentences * beams, 0, layer.place.dim, dtype=memory.dtype)
    whole = Memory(memory[rows], None if padding is None else padding[rows], masked_mean(memory, padding)[rows])
    for _ in range(steps):
        query = torch.randn(sentences * beams, 1, layer.place.dim, dtype=memory.dtype, generator=generator)
        history = torch.cat([history, query], dim=1)
        attended, state = layer.step(query, state, sentences, need_weights=True)
        expected = layer.attend(history, whole, need_weights=True)
        torch.testing.assert_close(attended.values, expected.values[:, -1:])
        assert attended.weights is not None
        assert expected.weights is not None
        torch.testing.assert_close(attended.weights, expected.weights[:, :, -1:])
        chosen = rows * beams + torch.randint(beams, rows.shape, generator=generator)
        state, history = state.select(rows=chosen), history[chosen]
