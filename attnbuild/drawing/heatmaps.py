"""Pictures of where in an image each word was looked at (Xu et al. 2015, "Show, Attend and Tell", fig. 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnbuild.drawing.canvas import DPI, label, letters, new_figure, save, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heatmaps", "draw_overlay", "overlay"]

#: Inches the longer side of a photo takes among others, and alone.
_SMALL, _LARGE = 1.7, 4.0
#: What a label takes above it and needs beside others, and the space on each side.
_LABEL, _NARROWEST, _GAP = 0.2, 1.5, 0.04
#: The longest side of a picture in inches: beyond it photos get smaller.
_LONGEST_SIDE = 24.0
#: Bright is much; grows steadily in lightness, so it is read without telling red from green.
_COLOURS = "inferno"
#: How much of the photo's light is left where nothing was looked at, and how much colour covers the brightest place.
_DIMMED, _COVER = 0.75, 0.6


def draw_heatmaps(picture: np.ndarray, weights: np.ndarray, words: Sequence[str], path: Path, title: str = "") -> Path:
    """Draw the photo, and again for each word with what was looked at for it.

    Args:
        picture: uint8 (height, width, channels), with 1 channel or 3.
        weights: (T, h, w), one map a word. Each is drawn from 0 to its highest weight, which is written beside the
            word: an even map is bright all over.
        words: T labels.
        path: the PNG to write.
        title: written above.

    Returns:
        The file written.

    Raises:
        ValueError: the words do not fit the weights, or a shape is none of these.
    """
    if weights.ndim != 3 or len(weights) != len(words):
        raise ValueError(f"weights {weights.shape} do not fit {len(words)} words: (words, height, width) is expected")
    photo = _enlarged(picture, round(_SMALL * DPI))
    panels = [(photo, "")]
    panels += [(overlay(photo, one), _caption(word, one)) for one, word in zip(weights, words, strict=True)]
    _draw_panels(panels, _SMALL, path, title)
    return path


def draw_overlay(picture: np.ndarray, weights: np.ndarray, path: Path, title: str = "") -> Path:
    """Draw the photo, and beside it what was looked at in all, as for a label.

    Args:
        picture: uint8 (height, width, channels), with 1 channel or 3.
        weights: (h, w), drawn from 0 to the highest.
        path: the PNG to write.
        title: written above.

    Returns:
        The file written.

    Raises:
        ValueError: a shape is none of these.
    """
    photo = _enlarged(picture, round(_LARGE * DPI))
    _draw_panels([(photo, ""), (overlay(photo, weights), _caption("", weights))], _LARGE, path, title)
    return path


def overlay(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A photo in grey with a smooth heatmap over it.

    Args:
        picture: uint8 (height, width, channels), with 1 channel or 3.
        weights: (h, w), not negative; what is not a number counts as 0.

    Returns:
        uint8 (height, width, 3).
    """
    import matplotlib
    from PIL import Image

    if weights.ndim != 2:
        raise ValueError(f"weights {weights.shape} are no map (height, width)")
    picture = _in_colours(picture)
    height, width = picture.shape[:2]
    known = np.nan_to_num(weights.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    heat = known / max(float(known.max(initial=0.0)), 1e-12)
    # Cubic interpolation swings below 0 and above 1 beside a peak.
    smooth = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    heat = np.asarray(smooth).clip(0.0, 1.0)[:, :, None]
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    colours = matplotlib.colormaps[_COLOURS](heat[:, :, 0])[:, :, :3] * 255.0
    cover = _COVER * heat
    mixed = (1.0 - cover) * _DIMMED * grey[:, :, None] + cover * colours
    return mixed.round().clip(0, 255).astype(np.uint8)


def _draw_panels(panels: list[tuple[np.ndarray, str]], side: float, path: Path, title: str) -> None:
    """Photos of one size in rows, each with its label above."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shape = panels[0][0].shape
    high, wide = (side * length / max(shape[:2]) for length in shape[:2])
    high, wide = high + _LABEL, max(wide, _NARROWEST)
    # About four wide by three high, at most eight in a row, and no row much shorter than the others.
    rows = math.ceil(len(panels) / min(8, math.ceil(math.sqrt(len(panels) * 4 / 3 * high / wide))))
    columns = math.ceil(len(panels) / rows)
    scale = min(1.0, _LONGEST_SIDE / max(columns * wide, rows * high))
    width, height = columns * (wide + 2 * _GAP) * scale, rows * (high + 2 * _GAP) * scale
    layout = ConstrainedLayoutEngine(w_pad=_GAP, h_pad=_GAP, wspace=0.0, hspace=0.0)
    figure = new_figure(max(width, 3.0), height + (0.45 if title else 0.0), layout)
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if place < len(panels):
            _draw_panel(axes, *panels[place], size=max(3.0, 9.0 * scale))
    set_title(figure, title)
    save(figure, path)


def _draw_panel(axes: Axes, picture: np.ndarray, name: str, size: float) -> None:
    axes.imshow(picture)
    axes.set_title(name, pad=2.0, **letters(size))


def _caption(word: str, weights: np.ndarray) -> str:
    """The word, and the weight that its brightest place stands for."""
    highest = float(np.nan_to_num(weights).max(initial=0.0))
    return f"{label(word, 14)}  ≤ {highest:.2g}".strip()


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture in colours with a longer side of so many pixels, so that maps on it are smooth."""
    from PIL import Image

    picture = _in_colours(picture)
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BICUBIC))


def _in_colours(picture: np.ndarray) -> np.ndarray:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(f"{picture.dtype} {picture.shape} is no picture: uint8 (height, width, 1 or 3) is expected")
    return np.broadcast_to(picture, (*picture.shape[:2], 3))
