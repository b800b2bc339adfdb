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
from attnbuild.attention.build import build_block, describe
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import Place, PlaceKind
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import PART_DEFAULTS, AttentionSpec
from attnbuild.registry import lookup, options_of

DIM = 24
KINDS = {
    "self": PlaceKind(),
    "causal": PlaceKind(causal=True),
    "cross": PlaceKind(cross=True),
    "recurrent": PlaceKind(cross=True, sequential=True),
    "cells": PlaceKind(cells=True),
}


def serves(preset: str, kind: str) -> bool:
    """Whether the preset claims to serve such a place."""
    spec = AttentionSpec.from_config(load_preset(preset))
    return spec.capabilities.refusal(KINDS[kind]) is None


EVERY = list(itertools.product(list_names("attention"), KINDS))
SERVED = [(preset, kind) for preset, kind in EVERY if serves(preset, kind)]
REFUSED = [pair for pair in EVERY if pair not in SERVED]
#: A recurrent decoder asks nothing that cross-attention does not, and an image nothing that a sequence does not; only
#: those that serve nowhere else need them.
WIDER = {"recurrent": "cross", "cells": "self"}
CLAIMED = [(preset, kind) for preset, kind in SERVED if (preset, WIDER.get(kind)) not in SERVED]


@dataclass
class Case:
    """One attention with inputs of its own, in float64.

    Attributes:
        lengths: real keys of each row; the rest is padding at the right.
        queries: number of queries; in self-attention it is the number of keys too.
        keys: number of keys.
        grid: rows and columns where positions are cells; None: all in one row.
        extra: positions before the cells.
    """

    preset: str
    kind: str
    queries: int
    keys: int
    lengths: list[int]
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    grid: tuple[int, int] | None = None
    extra: int = 0

    @property
    def place(self) -> PlaceKind:
        return KINDS[self.kind]

    def build(self) -> AttentionBlock:
        torch.manual_seed(self.seed)
        if self.place.cells:
            grid = self.grid or (1, self.queries)
            where = Place("attention", DIM, DIM, grid=grid, extra=self.extra, **vars(self.place))
            spec = AttentionSpec.from_config({**load_preset(self.preset), **self.options})
            return build_block(spec, where).double().eval()
        memory_dim = DIM if self.place.cross else None
        place = {"causal": self.place.causal, "sequential": self.place.sequential}
        layer = build_attention(self.preset, dim=DIM, memory_dim=memory_dim, **place, **self.options)
        return layer.double().eval()

    @property
    def refused(self) -> list[str]:
        """The paths of the options for which such a layer is refused; none where it can be built."""
        try:
            self.build()
        except ConfigError as error:
            return [problem.path for problem in error.problems]
        return []

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
    described = describe(preset)
    names, parts = {option["name"]: option["default"] for option in described["options"]}, described["parts"]
    if names.get("projections") == "all":
        choices += [{"heads": 2, "kv_heads": 1}, {"heads": 6, "kv_heads": 3}, {"bias": False}]
    if "window" in names:
        choices += [{"window": 0}, {"window": 2}]
    if "stride" in names:
        choices += [{"stride": 2}]
    if "factorize" in names:
        choices += [{"factorize": "layers"}, {"factorize": "merged"}]
    if "block_size" in names:
        choices += [{"block_size": 1}, {"block_size": 2}]
    if "local" in names:
        choices += [{"local": 0}]
    if "k" in names:
        choices += [{"k": 1}, {"k": 2}]
    if "kernel" in names:
        choices += [{"kernel": 1}, {"kernel": 3}]
    if "sharpening" in names:
        choices += [{"sharpening": 2.5}]
    if "sigma" in names:
        choices += [{"sigma": 0.1}]
    if parts.get("weighting") and parts["core"] != "soft":  # what soft can be composed of has a law of its own
        choices += [{"weighting": "topk", "k": 2}, {"weighting": "sparsemax"}, {"weighting": "talking_heads"}]
    if "neighborhood" in names:
        choices += [{"neighborhood": 1}, {"neighborhood": 3}]
    if "max_distance" in names:
        choices += [{"max_distance": 1}]
    if "estimator" in names:
        choices += [{"estimator": "gumbel"}, {"estimator": "straight_through"}]
    if "soft_mix" in names:
        choices += [{"soft_mix": 0.0}, {"soft_mix": 1.0}]
    if "rope_dim" in names:
        choices += [{"rope_dim": 0}, {"rope_dim": 2, "rope_base": 10.0}]
    if "query_rank" in names:
        choices += [{"rank": 1}, {"rank": 30, "query_rank": 5}]
    if "projected_len" in names:
        choices += [{"projected_len": 2, "share": "none", "heads": 4, "kv_heads": 2}, {"share": "key_value"}]
    if "features" in names:
        choices += [{"features": 3}, {"redraw_every": 1, "seed": 1}]
    if "landmarks" in names:
        choices += [{"landmarks": 2, "iterations": 3}, {"landmarks": 3, "convolution": 0}, {"landmarks": 1}]
    if "chunk_len" in names:
        choices += [{"chunk_len": 1}, {"chunk_len": 2, "rounds": 2}, {"chunk_len": 3, "rounds": 1}]
    return choices


def buildable_choices(preset: str, kind: str) -> list[dict[str, Any]]:
    """Those settings, less the ones that the preset refuses for the very options that are set."""
    return [
        options
        for options in option_choices(preset)
        if not any(
            path.rpartition(".")[2] in options for path in Case(preset, kind, 1, 1, [1], options=options).refused
        )
    ]


def cases(preset: str, kind: str, *, padded: bool = True) -> st.SearchStrategy[Case]:
    """Small cases; ``padded`` allows padding and rows that are nothing but padding."""
    choices = buildable_choices(preset, kind)

    @st.composite
    def draw_case(draw: Any) -> Case:
        queries, grid, extra = draw(st.integers(1, 6)), None, 0
        if KINDS[kind].cells:
            grid, extra = draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), draw(st.integers(0, 1))
            queries = grid[0] * grid[1] + extra
        keys = draw(st.integers(1, 6)) if KINDS[kind].cross else queries
        lengths = draw(st.lists(st.integers(0 if padded else keys, keys), min_size=1, max_size=3))
        seed, options = draw(st.integers(0, 99)), draw(st.sampled_from(choices))
        return Case(preset, kind, queries, keys, lengths, seed, options, grid, extra)

    return draw_case()


SMALL = {"k": 2, "neighborhood": 3}


def _composable(kind: str) -> dict[str, list[dict[str, Any]]]:
    """For each kind of part of the core ``soft``, those that alone can serve such a place, with small options."""
    choices: dict[str, list[dict[str, Any]]] = {}
    for part in PART_DEFAULTS:
        makers = {name: lookup(part, name) for name in list_names(part)}
        choices[part] = [
            # The weightings' k and the neighborhood: by default they are more than there are keys here.
            {part: name, **{option: value for option, value in SMALL.items() if option in options_of(maker)}}
            for name, maker in makers.items()
            if getattr(maker, "capabilities", Capabilities()).refusal(KINDS[kind]) is None
        ]
    return choices


def compositions(kind: str) -> st.SearchStrategy[Case]:
    """Small cases of any score x pattern x weighting x position x heads of ``soft`` that the builder lets through."""
    choices = [st.sampled_from(chosen) for chosen in _composable(kind).values()]
    heads = st.sampled_from([{"heads": 1}, {"heads": 6, "kv_heads": 2}])

    def compose(case: Case, *options: dict[str, Any]) -> Case:
        return dataclasses.replace(case, options={name: value for part in options for name, value in part.items()})

    return st.builds(compose, cases("multihead", kind), heads, *choices).filter(lambda case: not case.refused)


def all_cases(preset: str, kind: str) -> list[Case]:
    """The full product of options, shapes and paddings."""
    shapes = [(1, 1), (2, 5), (5, 2), (7, 7), (1, 6)] if KINDS[kind].cross else [(n, n) for n in (1, 2, 5, 9)]
    grids: list[tuple[tuple[int, int] | None, int]] = [(None, 0)]
    if KINDS[kind].cells:
        shapes, grids = [(13, 13)], [((3, 4), 1), ((6, 2), 1), ((1, 13), 0)]
    return [
        Case(preset, kind, queries, keys, lengths, seed, options, grid, extra)
        for options in buildable_choices(preset, kind)
        for queries, keys in shapes
        for grid, extra in grids
        for lengths in ([keys], [keys, 1], [0, keys, (keys + 1) // 2])
        for seed in (0, 1)
    ]
