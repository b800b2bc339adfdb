"""Neighbourhood attention: which cells, against plain loops; what is refused; and what it costs."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbuild import ConfigError, build_attention
from attnbuild.attention.backends.plan import make_plan
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import build_block
from attnbuild.attention.patterns.pieces import Cells
from attnbuild.attention.place import Place
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.measure.places import Cost, cost_of

GRIDS = [(5, 4), (1, 6), (3, 3), (9, 11), (12, 26)]


def build(grid: tuple[int, int] | None, *, extra: int = 0, dim: int = 8, **options: Any) -> AttentionBlock:
    torch.manual_seed(0)
    spec = AttentionSpec.from_config({**load_preset("neighborhood"), "heads": 2, **options})
    return build_block(spec, Place("encoder.attention", dim, dim, grid=grid, extra=extra, cells=True)).double().eval()


def nearest(at: int, size: int, count: int) -> range:
    """The cells that one at ``at`` sees along a side: as many as there are to each side, made up for at the borders."""
    if count <= size:
        return range(count)
    first = at - (size - 1) // 2
    while first < 0:
        first += 1
    while first + size > count:
        first -= 1
    return range(first, first + size)


def brute_force(query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int], size: int, extra: int) -> Tensor:
    """(H, N, D) each, a query at a time."""
    height, width = grid
    length = extra + height * width
    output = torch.zeros_like(value)
    for position in range(length):
        row, column = divmod(position - extra, width)
        seen = list(range(length))
        if position >= extra:
            cells = [r * width + c for r in nearest(row, size, height) for c in nearest(column, size, width)]
            seen = [*range(extra), *(extra + cell for cell in cells)]
        scores = torch.einsum("hd,hmd->hm", query[:, position], key[:, seen]) / query.shape[-1] ** 0.5
        output[:, position] = torch.einsum("hm,hmd->hd", scores.softmax(dim=-1), value[:, seen])
    return output


@pytest.mark.parametrize("backend", ["reference", "sdpa", "blocksparse"])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_equals_plain_loops(grid: tuple[int, int], extra: int, size: int, backend: str) -> None:
    core = build(grid, extra=extra, neighborhood=size, backend=backend).core
    states = torch.randn(3, 1, 2, grid[0] * grid[1] + extra, 4, dtype=torch.float64)
    expected = brute_force(*states[:, 0], grid, size, extra)
    torch.testing.assert_close(core.attend(*states, None).values[0], expected)


@pytest.mark.parametrize("longer", [-7, 0, 3])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_tiles_compute_what_the_mask_shows(grid: tuple[int, int], extra: int, longer: int) -> None:
    """Forward and gradients, with padding, in sequences as long as the grid, longer and shorter."""
    dense, sparse = (build(grid, extra=extra, neighborhood=3, backend=name) for name in ("reference", "blocksparse"))
    length = max(1, grid[0] * grid[1] + extra + longer)
    states = torch.randn(2, length, 8, dtype=torch.float64, requires_grad=True)
    padding = torch.arange(length) >= torch.tensor([[length], [length // 2]])
    found, gradients = [], []
    for layer in (dense, sparse):
        found.append(layer(states, key_padding_mask=padding))
        gradients.append(torch.autograd.grad(found[-1].square().sum(), [states, *layer.parameters()]))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 40), st.sampled_from([1, 3, 5, 9]), st.integers(0, 2), st.integers(-9, 9))
def test_tiles_hold_each_pair_once(height: int, width: int, size: int, start: int, longer: int) -> None:
    """What the predicate shows, and nothing else; in sequences as long as the grid, longer and shorter."""
    piece, length = Cells(start, height, width, size), max(1, start + height * width + longer)
    held = torch.zeros(length, length, dtype=torch.int)
    for tile in piece.tiles(length, causal=False):
        query, key = tile.query.positions(torch.device("cpu")).unsqueeze(2), tile.key.unsqueeze(1)
        shown = (key >= 0) & piece.sees(torch.zeros(()), query, key)
        pair = (query * length + key.clamp(min=0))[shown]
        held.view(-1).index_add_(0, pair, torch.ones(len(pair), dtype=torch.int))
    position = torch.arange(length)
    assert torch.equal(held, piece.sees(torch.zeros(()), position.unsqueeze(1), position).int())


def test_every_cell_sees_as_many_also_at_the_borders() -> None:
    _, weights = build((6, 9), neighborhood=5)(torch.randn(1, 54, 8, dtype=torch.float64), need_weights=True)
    assert ((weights > 0).sum(dim=-1) == 25).all()


def test_a_grid_within_the_window_is_seen_whole() -> None:
    states = torch.randn(2, 20, 8, dtype=torch.float64)
    _, weights = build((4, 5), neighborhood=7)(states, need_weights=True)
    assert (weights > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighborhood": 4}, "encoder.attention.neighborhood .*3 or 5"),
        ({"neighborhood": 0}, "attention.neighborhood .*greater than or equal to 1"),
    ],
)
def test_a_window_without_a_middle_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build((4, 4), **options)


def test_positions_that_are_no_cells_are_refused() -> None:
    with pytest.raises(ConfigError, match="neither rows nor columns"):
        build_attention("neighborhood", dim=8)
    with pytest.raises(ConfigError, match=r"say grid=\(height, width\)"):
        build(None)


GROWING = ((32, 32), (64, 32), (128, 32))


@functools.cache
def cost(grid: tuple[int, int]) -> Cost:
    layer = build(grid, extra=1, neighborhood=3, backend="blocksparse").float().train()
    states = torch.randn(1, grid[0] * grid[1] + 1, 8, requires_grad=True)
    return cost_of(lambda: layer(states), [states, *layer.parameters()])


@pytest.mark.parametrize("figure", ["peak", "kept", "forward", "backward"])
def test_grows_as_the_cells(figure: str) -> None:
    """From 1,024 to 2,048 and 4,096 cells: twice as many cost twice as much, and not four times."""
    short, middle, long = (getattr(cost(grid), figure) for grid in GROWING)
    assert long - middle <= 1.2 * 2 * (middle - short)


@pytest.mark.parametrize("size", [3, 7, 13])
def test_computes_few_more_scores_than_are_seen(size: int) -> None:
    area = make_plan((Cells(0, 56, 56, size),), 56 * 56, False, 1, torch.device("cpu")).area
    assert area < 3.4 * 56 * 56 * size**2
