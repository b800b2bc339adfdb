"""Pictures of an alignment: which source token each target token looked at (Bahdanau et al. 2015, fig. 3)."""

from __future__ import annotations

import math
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_alignment"]

#: Inches a token takes, and the longest side of a picture's grid: beyond it tokens get smaller.
_CELL, _LONGEST_SIDE = 0.28, 24.0
#: Font size of the labels in points for a cell of the full size.
_FONT_SIZE = 9.0
_LONGEST_LABEL = 20

#: Tried in this order for the letters that matplotlib's own font lacks, where they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans",
    "Arial Unicode MS",
)


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
    sources, targets = [_label(token) for token in source_tokens], [_label(token) for token in target_tokens]
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
    figure, cell = _figure(columns * len(sources), rows * len(targets))
    style: dict[str, Any] = {
        "fontsize": max(2.0, _FONT_SIZE * cell / _CELL),
        "fontfamily": _installed_fonts(),
        "parse_math": False,
    }
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
    figure.suptitle(_printable(title), fontfamily=style["fontfamily"], parse_math=False, wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A letter that no font has is drawn as a box; a word about each would drown the log.
        warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing from")
        warnings.filterwarnings("ignore", message=r"(?s).*constrained_layout not applied")
        figure.savefig(path, format="png", dpi=120)


def _figure(across: int, down: int) -> tuple[Figure, float]:
    """A figure for a grid of so many tokens, and the inches that one takes in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cell = min(_CELL, _LONGEST_SIDE / max(across, down))
    # The margin holds labels, title and colour bar.
    figure = Figure(figsize=(across * cell + 3.0, down * cell + 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, cell


def _label_axes(axes: Axes, sources: list[str], targets: list[str], style: dict[str, Any], *, across: bool) -> None:
    axes.set_xticks(range(len(sources)), labels=sources, rotation=90, **style)
    axes.set_yticks(range(len(targets)), labels=targets, **style)
    axes.tick_params(length=0, labelbottom=across)


def _installed_fonts() -> list[str]:
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return [font for font in _FONTS if font in installed]


def _label(token: str) -> str:
    """A token as a label: printable, and no longer than a label should be."""
    text = _printable(token)
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _printable(text: str) -> str:
    """Control characters and lone surrogates, which no font can draw, become a middle dot."""
    return "".join("·" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)
