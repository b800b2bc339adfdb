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
    _draw_panels([weights.mean(axis=0)], [""], sources, targets, path, title)
    if len(weights) == 1:
        return [path]
    names = [f"head {head + 1}" for head in range(len(weights))]
    single = path.with_name(f"{path.stem}_heads{path.suffix}")
    _draw_panels(list(weights), names, sources, targets, single, title)
    return [path, single]


def _draw_panels(
    panels: list[np.ndarray], names: list[str], sources: list[str], targets: list[str], path: Path, title: str
) -> None:
    """All panels in one picture, with labels at the outer ones only and one colour scale."""
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    across, down = columns * len(sources), rows * len(targets)
    cell = min(_CELL, _LONGEST_SIDE / max(across, down))
    # The margin holds labels, title and colour bar.
    figure = new_figure(across * cell + 3.0, down * cell + 2.5, "constrained")
    style = letters(max(2.0, _FONT_SIZE * cell / _CELL))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    highest = float(np.nanmax(np.stack(panels), initial=1e-9))
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        image = axes.imshow(panels[place], cmap="Blues", vmin=0.0, vmax=highest, aspect="equal")
        axes.set_title(names[place], fontsize=_FONT_SIZE)
        _label_axes(axes, sources, targets, style, across=place + columns >= len(panels))
    figure.colorbar(image, ax=grid, fraction=0.03, pad=0.02)
    set_title(figure, title)
    save(figure, path)


def _label_axes(axes: Axes, sources: list[str], targets: list[str], style: dict[str, Any], *, across: bool) -> None:
    axes.set_xticks(range(len(sources)), labels=sources, rotation=90, **style)
    axes.set_yticks(range(len(targets)), labels=targets, **style)
    axes.tick_params(length=0, labelbottom=across)
