"""What the laws are held against: every registered preset at every kind of place, over shapes and options."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from attnbuild import ConfigError, build_attention, list_names
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import describe
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec

DIM = 24
KINDS = {
    "self": PlaceKind(),
    "causal": PlaceKind(causal=True),
    "cross": PlaceKind(cross=True),
    "recurrent": PlaceKind(cross=True, sequential=True),
}


def serves(preset: str, kind: str) -> bool:
    """Whether the preset claims to serve such a place."""
    spec = AttentionSpec.from_config(load_preset(preset))
    return spec.capabilities.refusal(KINDS[kind]) is None


EVERY = list(itertools.product(list_names("attention"), KINDS))
SERVED = [(preset, kind) for preset, kind in EVERY if serves(preset, kind)]
REFUSED = [pair for pair in EVERY if pair not in SERVED]
#: A recurrent decoder asks nothing that cross-attention does not; only those that serve nowhere else need it.
CLAIMED = [(preset, kind) for preset, kind in SERVED if kind != "recurrent" or (preset, "cross") not in SERVED]


@dataclass
class Case:
    """One attention with inputs of its own, in float64.

    Attributes:
        lengths: real keys of each row; the rest is padding at the right.
        queries: number of queries; in self-attention it is the number of keys too.
        keys: number of keys.
    """

    preset: str
    kind: str
    queries: int
    keys: int
    lengths: list[int]
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> PlaceKind:
        return KINDS[self.kind]

    def build(self) -> AttentionBlock:
        torch.manual_seed(self.seed)
        memory_dim = DIM if self.place.cross else None
        place = {"causal": self.place.causal, "sequential": self.place.sequential}
        layer = build_attention(self.preset, dim=DIM, memory_dim=memory_dim, **place, **self.options)
        return layer.double().eval()

    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """query (B, N, D), memory (B, S, D) or None, key_padding_mask (B, S)."""
        generator = torch.Generator().manual_seed(self.seed + 1)

        def draw(count: int) -> Tensor:
            return torch.randn(len(self.lengths), count, DIM, generator=generator, dtype=torch.float64)

        padding = torch.arange(self.keys) >= torch.tensor(self.lengths).unsqueeze(1)
        return draw(self.queries), draw(self.keys) if self.place.cross else None, padding


def option_choices(preset: str) -> list[dict[str, Any]]:
    """Settings of a preset worth trying besides its own: other numbers of heads, narrow windows."""
    choices: list[dict[str, Any]] = [{}]
    names = {option["name"]: option["default"] for option in describe(preset)["options"]}
    if names.get("projections") == "all":
        choices += [{"heads": 2, "kv_heads": 1}, {"heads": 6, "kv_heads": 3}, {"bias": False}]
    if "window" in names:
        choices += [{"window": 0}, {"window": 2}]
    if "max_distance" in names:
        choices += [{"max_distance": 1}]
    return choices


def cases(preset: str, kind: str, *, padded: bool = True) -> st.SearchStrategy[Case]:
    """Small cases; ``padded`` allows padding and rows that are nothing but padding."""

    @st.composite
    def draw_case(draw: Any) -> Case:
        queries = draw(st.integers(1, 6))
        keys = draw(st.integers(1, 6)) if KINDS[kind].cross else queries
        lengths = draw(st.lists(st.integers(0 if padded else keys, keys), min_size=1, max_size=3))
        seed, options = draw(st.integers(0, 99)), draw(st.sampled_from(option_choices(preset)))
        return Case(preset, kind, queries, keys, lengths, seed, options)

    return draw_case()


def _can_be_built(kind: str, options: dict[str, Any]) -> bool:
    try:
        Case("multihead", kind, 1, 1, [1], options=options).build()
    except ConfigError:
        return False
    return True


#: Every score x pattern x position x heads of the core ``soft`` that the builder lets through, by kind of place.
COMPOSITIONS = {
    kind: [
        options
        for score, pattern, position in itertools.product(*map(list_names, ("score", "pattern", "position")))
        for heads in ({"heads": 1}, {"heads": 6, "kv_heads": 2})
        if _can_be_built(kind, options := {"score": score, "pattern": pattern, "position": position, **heads})
    ]
    for kind in KINDS
}


def compositions(kind: str) -> st.SearchStrategy[Case]:
    """Small cases of any composition."""
    return st.builds(
        lambda case, options: dataclasses.replace(case, options=options),
        cases("multihead", kind),
        st.sampled_from(COMPOSITIONS[kind]),
    )


def all_cases(preset: str, kind: str) -> list[Case]:
    """The full product of options, shapes and paddings."""
    shapes = [(1, 1), (2, 5), (5, 2), (7, 7), (1, 6)] if KINDS[kind].cross else [(n, n) for n in (1, 2, 5, 9)]
    return [
        Case(preset, kind, queries, keys, lengths, seed, options)
        for options in option_choices(preset)
        for queries, keys in shapes
        for lengths in ([keys], [keys, 1], [0, keys, (keys + 1) // 2])
        for seed in (0, 1)
    ]
