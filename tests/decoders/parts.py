"""What decoders are tested with: attentions by preset, and memories with padding."""

from __future__ import annotations

from typing import Any

import torch

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import build_block
from attnbuild.attention.maker import AttentionMaker
from attnbuild.attention.place import Place, PlaceKind
from attnbuild.attention.presets import load_preset, preset_names
from attnbuild.attention.spec import AttentionSpec
from attnbuild.memory import Memory, masked_mean

#: Width of memories; that of states, where scores such as the dot product want them equal.
DIM = 12


def serving(kind: PlaceKind) -> list[str]:
    """The presets that can serve such a place."""
    specs = {name: AttentionSpec.from_config(load_preset(name)) for name in preset_names()}
    return [name for name, spec in specs.items() if spec.capabilities.refusal(kind) is None]


def maker(preset: str, kind: PlaceKind, **options: Any) -> AttentionMaker:
    """Builds this attention at every place, of one kind all of them."""

    def make(
        name: str,
        *,
        dim: int,
        memory_dim: int | None = None,
        layer: int = 0,
        grid: tuple[int, int] | None = None,
        extra: int = 0,
    ) -> AttentionBlock:
        place = Place(f"decoder.{name}", dim, memory_dim or dim, layer, grid, extra, **vars(kind))
        return build_block(AttentionSpec.from_config({**load_preset(preset), **options}), place)

    return make


def memory_of(lengths: list[int], keys: int, *, dim: int = DIM, seed: int = 0) -> Memory:
    """Rows of so many real positions; the padding behind them holds numbers too."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(len(lengths), keys, dim, generator=generator, dtype=torch.float64)
    padding = torch.arange(keys) >= torch.tensor(lengths).unsqueeze(1)
    return Memory(states, padding, masked_mean(states, padding))


def rows_of(memory: Memory, rows: torch.Tensor | slice) -> Memory:
    """The memory of these rows alone."""
    padding = memory.key_padding_mask
    return Memory(memory.states[rows], None if padding is None else padding[rows], memory.summary[rows])


def with_more_padding(memory: Memory, count: int = 3) -> Memory:
    """The same real positions, other numbers in the padding, and more of it."""
    states, padding = memory.states, memory.key_padding_mask
    assert padding is not None
    junk = states.new_full((len(states), count, states.shape[2]), 7.0)
    replaced = torch.where(padding.unsqueeze(-1), -5.0, states)
    longer = torch.cat([padding, padding.new_ones(len(states), count)], dim=1)
    return Memory(torch.cat([replaced, junk], dim=1), longer, memory.summary)
