"""Pictures of an alignment: which source token each target token looked at (Bahdanau et al. 2015, fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbuild.drawing.canvas import label, letters, new_figure, save, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_alignment"]

#: Inches a token takes, and the longest side of a picture's grid: beyond it tokens get smaller.
_CELL, _LONGEST_SIDE = 0.28, 24.0
#: Font size of the labels in points for a cell of the full size.
_FONT_SIZE = 9.0


def draw_alignment(
    weights: np.ndarray,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    path: Path,
    title: str = "",
) -> list[Path]:
    """Draw the weights as a grid, target tokens down, source tokens across.

    Args:
        weights: (heads, T, S).
        source_tokens: S labels.
        target_tokens: T labels.
        path: the PNG to write with the mean of the heads. Where there are several, ``NAME_heads.png`` beside
            it shows each.
        title: written above.

    Returns:
        The files written.

    Raises:
        ValueError: the labels do not fit the weights.
    """
    expected = (len(target_tokens), len(source_tokens))
    if weights.ndim != 3 or weights.shape[1:] != expected:
        raise ValueError(f"weights {weights.shape} do not fit labels (heads, {expected[0]}, {expected[1]})")
    sources, targets = [label(token) for token in source_tokens], [label(token) for token in target_tokens]
    _draw_tiles(weights.mean(axis=0, keepdims=True), [""], sources, targets, path, title)
    if len(weights) == 1:
        return [path]
    names = [f"head {head + 1}" for head in range(len(weights))]
    single = path.with_name(f"{path.stem}_heads{path.suffix}")
    _draw_tiles(weights, names, sources, targets, single, title)
    return [path, single]


def _draw_tiles(
    weights: np.ndarray, names: list[str], sources: list[str], targets: list[str], path: Path, title: str
) -> None:
    """Draw (tiles, T, S) as one image with a cell between tiles: axes for each would take matplotlib seconds."""
    columns = _columns(len(weights))
    image = _tiled(weights, columns)
    cell = min(_CELL, _LONGEST_SIDE / max(image.shape))
    style = letters(max(2.0, _FONT_SIZE * cell / _CELL))
    # The margin holds labels, title and colour bar.
    figure = new_figure(image.shape[1] * cell + 3.0, image.shape[0] * cell + 2.5, "constrained")
    axes = figure.add_subplot(frame_on=False)
    highest = float(np.nanmax(weights, initial=1e-9))
    drawn = axes.imshow(image, cmap="Blues", vmin=0.0, vmax=highest, aspect="equal")
    high, wide = len(targets) + 1, len(sources) + 1
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        _frame(axes, row * high - 0.5, column * wide - 0.5, high - 1, wide - 1, name, style)
    axes.set_xticks(*_ticks(sources, columns), rotation=90, **style)
    axes.set_yticks(*_ticks(targets, len(weights) // columns), **style)
    axes.tick_params(length=0)
    figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.02)
    set_title(figure, title)
    save(figure, path)


def _columns(tiles: int) -> int:
    """How many tiles stand side by side: nearly as many as rows, and no row is left half empty."""
    return next(columns for columns in range(math.ceil(math.sqrt(tiles)), tiles + 1) if tiles % columns == 0)


def _tiled(weights: np.ndarray, columns: int) -> np.ndarray:
    """(tiles, T, S) side by side in rows, with a cell of nothing between them."""
    tiles, high, wide = weights.shape
    padded = np.pad(weights.astype(np.float64), ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows = padded.reshape(tiles // columns, columns, high + 1, wide + 1).transpose(0, 2, 1, 3)
    return rows.reshape(-1, columns * (wide + 1))[:-1, :-1]


def _ticks(labels: list[str], tiles: int) -> tuple[list[int], list[str]]:
    """Where the labels stand along so many tiles."""
    step = len(labels) + 1
    return [tile * step + place for tile in range(tiles) for place in range(len(labels))], labels * tiles


def _frame(axes: Axes, top: float, left: float, high: int, wide: int, name: str, style: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((left, top), wide, high, fill=False, linewidth=0.6, clip_on=False))
    axes.text(left + wide / 2, top, name, ha="center", va="bottom", **style)
