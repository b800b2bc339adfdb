"""Draws who sees whom under each attention: ``docs/attention/NAME.png``.

The weights of a fresh layer on made-up states, from fixed seeds: the same versions give the same picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention import describe
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.memory import Memory, masked_mean

__all__ = ["KINDS", "draw", "options", "served"]

DIM, LENGTH, TARGETS = 32, 32, 20

#: What an option is set to for a picture of 32 positions, in presets that have it and set it higher.
SMALL = {
    "window": 4,
    "stride": 6,
    "summary": 1,
    "block_size": 2,
    "global_blocks": 1,
    "random_blocks": 2,
    "local": 2,
    "k": 4,
    "max_distance": 8,
    "distance_buckets": 8,
    "max_len": LENGTH,
    "projected_len": 8,
    "landmarks": 8,
    "chunk_len": 4,
    "hash_buckets": 4,
    "rounds": 1,
    "neighborhood": 3,
}

#: Rows and columns of the cells of an image, LENGTH in all.
GRID = (4, LENGTH // 4)

#: Titles of the kinds of places, and what ``build_attention`` calls them.
KINDS: dict[str, dict[str, Any]] = {
    "encoder": {},
    "encoder of images": {"grid": GRID},
    "decoder, causal": {"causal": True},
    "cross-attention": {"memory_dim": DIM},
    "cross-attention, step by step": {"memory_dim": DIM, "sequential": True},
}


def options(name: str) -> dict[str, Any]:
    """What a preset is drawn with, where that is not its own setting."""
    declared = {option["name"]: option["default"] for option in describe(name)["options"]}
    return {
        option: value
        for option, value in SMALL.items()
        if isinstance(declared.get(option), int) and declared[option] > value
    }


def served(name: str) -> list[str]:
    """The kinds of places that a picture shows."""
    can = AttentionSpec.from_config(load_preset(name)).capabilities
    encoder = "encoder" if can.sequence else "encoder of images"
    places = {encoder: can.self_attention, "decoder, causal": can.self_attention and can.causal}
    cross = "cross-attention" if can.parallel else "cross-attention, step by step"
    return [kind for kind, is_served in {**places, cross: can.cross_attention}.items() if is_served]


def draw(name: str, path: Path) -> None:
    """One panel a kind of place, one row for each of the first two heads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {kind: seen(name, kind) for kind in served(name)}
    rows = max(len(maps) for maps in panels.values())
    figure = Figure(figsize=(2.5 * len(panels), 2.4 * rows + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, len(panels), squeeze=False)
    for column, (kind, maps) in enumerate(panels.items()):
        for row, weights in enumerate(maps):
            axes = grid[row][column]
            _show(axes, weights)
            axes.set_title(kind if len(maps) == 1 else f"{kind}\nhead {row}", fontsize=8)
            axes.set_xlabel("key", fontsize=7)
            axes.set_ylabel("query", fontsize=7)
    figure.savefig(path, dpi=80, metadata={"Software": None}, pil_kwargs={"optimize": True})


def _show(axes: Any, weights: Tensor) -> None:
    """White is exactly nothing; what is seen at all is never white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, PowerNorm

    colours = ListedColormap(colormaps["YlGnBu"](torch.linspace(0.12, 1, 64).numpy())).with_extremes(under="white")
    highest = max(weights.max().item(), 1e-6)
    axes.imshow(weights.numpy(), cmap=colours, norm=PowerNorm(0.5, vmin=1e-300, vmax=highest), interpolation="nearest")
    axes.tick_params(labelsize=6, length=2)


def seen(name: str, kind: str) -> list[Tensor]:
    """How much each query sees of each key, in the first two heads: (N, S) each."""
    torch.manual_seed(0)
    layer = build_attention(name, dim=DIM, **KINDS[kind], **options(name)).double().eval()
    length = TARGETS if layer.place.cross else LENGTH
    query, memory = _states(length, seed=1), _states(LENGTH, seed=2) if layer.place.cross else None
    if layer.spec.capabilities.weights == "none":
        return [_influence(layer, query, memory)]
    with torch.no_grad():
        weights = _step_by_step(layer, query, memory) if layer.place.sequential else _at_once(layer, query, memory)
    return [head.abs() for head in weights[:2]]


def _states(length: int, seed: int) -> Tensor:
    """Eight tokens over and over in a random order, no two alike: (1, N, D)."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(8, DIM, generator=generator, dtype=torch.float64)
    order = torch.randint(8, (length,), generator=generator)
    return (tokens[order] + 0.3 * torch.randn(length, DIM, generator=generator, dtype=torch.float64)).unsqueeze(0)


def _at_once(layer: AttentionBlock, query: Tensor, memory: Tensor | None) -> Tensor:
    _, weights = layer(query, memory, need_weights=True)
    return weights[0]


def _step_by_step(layer: AttentionBlock, query: Tensor, memory: Tensor | None) -> Tensor:
    assert memory is not None
    state, rows = layer.start(Memory(memory, None, masked_mean(memory, None))), []
    for step in range(query.shape[1]):
        attended, state = layer.step(query[:, step : step + 1], state, 1, need_weights=True)
        rows.append(attended.weights[0])
    return torch.cat(rows, dim=1)


def _influence(layer: AttentionBlock, query: Tensor, memory: Tensor | None) -> Tensor:
    """Where there are no weights: the norm of the gradient of each output for each input, a row's sum being 1."""
    inputs = (query if memory is None else memory).requires_grad_()
    output = layer(query, memory)
    rows = []
    for position in range(query.shape[1]):
        squares = torch.zeros(inputs.shape[1], dtype=inputs.dtype)
        for channel in range(output.shape[-1]):
            (gradient,) = torch.autograd.grad(output[0, position, channel], inputs, retain_graph=True)
            squares += gradient[0].square().sum(dim=-1)
        rows.append(squares.sqrt())
    influence = torch.stack(rows)
    return influence / influence.sum(dim=-1, keepdim=True).clamp(min=1e-12)
