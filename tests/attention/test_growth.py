"""What claims linear memory grows linearly: bytes at their peak, and operations, at L, 2 L and 4 L; not timed.

A preset that claims it is covered by being there. Its windows, ranks and blocks are made small, so that the
lengths lie far beyond them. Operations may grow as the keys that a pattern lets be seen: those of a stride grow
with the square of the length, however little memory that takes.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from attnbuild.attention import describe
from attnbuild.attention.core.soft import Soft
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.measure.layers import Bench
from attnbuild.measure.places import Cost, cost_of
from tests.properties.cases import CLAIMED

LENGTHS = (1024, 2048, 4096)
#: What from 2 L to 4 L may grow by, over what from L to 2 L does. Linear is 2, N log N 2.2, N^1.5 2.8 and N^2 4.
LINEAR, SLACK = 2.0, 1.2

#: Options that set how much a query sees, and a small value for each.
SMALL = {
    "window": 8,
    "stride": 8,
    "summary": 1,
    "block_size": 8,
    "dilation": 2,
    "projected_len": 8,
    "landmarks": 8,
    "features": 8,
    "rank": 8,
    "chunk_len": 16,
    "hash_buckets": 8,
    "max_len": max(LENGTHS),
}


def claims(preset: str) -> bool:
    return AttentionSpec.from_config(load_preset(preset)).capabilities.linear_memory


#: The growth of those that serve cells alone: tests/attention/test_neighborhood.py.
CASES = [(preset, kind) for preset, kind in CLAIMED if kind not in ("recurrent", "cells") and claims(preset)]


def small_options(preset: str) -> dict[str, Any]:
    """Its own values where they are smaller; and of the backends, the one that computes only what is seen."""
    options = {option["name"]: option for option in describe(preset)["options"]}
    small = {name: value for name, value in SMALL.items() if name in options}
    if describe(preset)["parts"].get("pattern", "full") != "full" and "backend" in options:
        small["backend"] = "blocksparse"
    return small


def bench(preset: str, kind: str) -> Bench:
    return Bench(dim=16, heads=2, causal=kind == "causal", cross=kind == "cross", options=small_options(preset))


@functools.cache
def cost(preset: str, kind: str, length: int) -> Cost:
    layer, inputs = bench(preset, kind).build(load_preset(preset)), bench(preset, kind).inputs(length)
    return cost_of(lambda: layer(*inputs), [*inputs, *layer.parameters()])


def growth(values: list[int]) -> float:
    """Of differences, so that what does not grow (parameters, tables) takes no part; 0 where nothing grows."""
    short, middle, long = values
    return (long - middle) / (middle - short) if long > middle else 0.0


@functools.cache
def growth_of_pairs(preset: str, kind: str) -> float:
    """Of the pairs of query and key that its pattern lets see each other."""
    core = bench(preset, kind).build(load_preset(preset)).core
    if not isinstance(core, Soft):
        return LINEAR
    head, pairs = torch.arange(2).view(-1, 1, 1), []
    for length in LENGTHS:
        query, key = torch.arange(length).view(-1, 1), torch.arange(length)
        seen = core.pattern.mask_mod(head, query, key)
        pairs.append(int((seen & (key <= query) if kind == "causal" else seen).expand(2, -1, -1).sum()))
    return growth(pairs)


@pytest.mark.parametrize("figure", ["peak", "kept", "forward", "backward"])
@pytest.mark.parametrize(("preset", "kind"), CASES, ids=["-".join(case) for case in CASES])
def test_growth(preset: str, kind: str, figure: str) -> None:
    figures = [getattr(cost(preset, kind, length), figure) for length in LENGTHS]
    allowed = LINEAR if figure in ("peak", "kept") else max(LINEAR, growth_of_pairs(preset, kind))
    assert growth(figures) <= SLACK * allowed, f"{figure} at {LENGTHS}: {figures}"


@pytest.mark.parametrize(("figure", "least"), [("peak", 3), ("forward", 3)])
def test_what_is_quadratic_would_be_found(figure: str, least: float) -> None:
    dense = Bench(dim=16, heads=2, options={"backend": "reference"})
    layer = dense.build(load_preset("multihead"))
    costs = []
    for length in LENGTHS:
        inputs = dense.inputs(length // 4)
        costs.append(cost_of(lambda inputs=inputs: layer(*inputs), [*inputs, *layer.parameters()]))  # type: ignore[misc]
    assert growth([getattr(cost, figure) for cost in costs]) > least
