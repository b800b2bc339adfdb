"""Pictures of which words of a text were looked at: each on a ground as dark as its weight."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnbuild.drawing.canvas import DPI, letters, new_figure, printable, quiet, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = ["draw_words"]

#: Points: size of the letters, height of a line, width of a space, and what separates two panels.
_FONT_SIZE, _LINE, _SPACE, _PANEL_GAP = 11.0, 20.0, 6.0, 16.0
#: Points: width of the text where it is wrapped, and the greatest height of the picture: beyond it all gets smaller.
_WIDTH, _HIGHEST = 620.0, 2400.0
#: Points left free around the text, at its left for the names of heads, and at its right for the scale.
_MARGIN, _NAMES, _SCALE = 10.0, 52.0, 60.0
_LONGEST_TOKEN = 60
#: What stands for a space in a token.
_MARK = "▁"


@dataclass(frozen=True)
class _Box:
    """A token where it is drawn; points from the left of the text, and lines from the top."""

    text: str
    left: float
    width: float
    line: int


def draw_words(tokens: Sequence[str], weights: np.ndarray, path: Path, title: str = "") -> Path:
    """Draw the text with the weight of each token, first the mean of the heads, then, where there are several, each.

    Where any token holds ``▁``, it marks the spaces (as ``Vocabulary.tokens`` does), and tokens without it continue
    a word. Otherwise tokens are whole words. Scripts that are written from right to left are laid out so.

    Args:
        tokens: S labels.
        weights: (S,) or (heads, S); what is not a number counts as 0.
        path: the PNG to write.
        title: written above.

    Returns:
        The file written.

    Raises:
        ValueError: there is no token, or the tokens do not fit the weights.
    """
    panels = np.nan_to_num(np.atleast_2d(weights).astype(np.float64), nan=0.0)
    if panels.ndim != 2 or not len(tokens) or panels.shape[1] != len(tokens):
        raise ValueError(f"weights {weights.shape} do not fit {len(tokens)} tokens: (tokens,) or (heads, tokens)")
    boxes = _laid_out(tokens)
    named = [("", panels.mean(axis=0))] if len(panels) == 1 else [("mean", panels.mean(axis=0))]
    if len(panels) > 1:
        named += [(f"head {head}", one) for head, one in enumerate(panels, start=1)]
    _draw(boxes, named, path, title)
    return path


def _draw(boxes: list[_Box], named: list[tuple[str, np.ndarray]], path: Path, title: str) -> None:
    """All panels below each other, on one scale of colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    left = _MARGIN + (_NAMES if len(named) > 1 else 0.0)
    text_width = max(max(box.left + box.width for box in boxes), 160.0)
    panel_height = (boxes[-1].line + 1) * _LINE + _PANEL_GAP
    width, height = left + text_width + _MARGIN + _SCALE, max(len(named) * panel_height, 60.0)
    lines = textwrap.wrap(printable(title), max(16, int(width / 8)))
    above = _MARGIN + _LINE * len(lines)
    scale = min(1.0, _HIGHEST / (height + above))
    figure = new_figure(width * scale / 72, (height + above) * scale / 72, layout=None)
    # One unit is a point where nothing had to shrink, counted downwards; the title stands above 0.
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, width), ylim=(height, -above))
    axes.set_axis_off()
    for number, text in enumerate(lines):
        middle = (width / 2, (number + 0.8) * _LINE - above)
        axes.text(*middle, text, ha="center", va="center", **letters(12.0 * scale))
    colours = ScalarMappable(Normalize(0.0, max(*(weights.max() for _, weights in named), 1e-9)), "Blues")
    for number, (name, weights) in enumerate(named):
        top = number * panel_height
        axes.text(_MARGIN, top + _LINE / 2, name, va="center", color="dimgrey", **letters(9.0 * scale))
        _draw_panel(axes, boxes, weights, colours, (left, top), scale)
    whole = height + above
    bar = figure.add_axes((1 - _SCALE / width, (height - 50.0) / whole, 8.0 / width, 44.0 / whole))
    figure.colorbar(colours, cax=bar, ticks=colours.get_clim(), format="%.2g")
    bar.tick_params(labelsize=8.0 * scale, length=2.0)
    save(figure, path)


def _draw_panel(
    axes: Axes,
    boxes: list[_Box],
    weights: np.ndarray,
    colours: ScalarMappable,
    corner: tuple[float, float],
    scale: float,
) -> None:
    """The text once, each token on its ground."""
    from matplotlib.collections import PolyCollection

    left, top = corner
    grounds = []
    for box, weight in zip(boxes, weights / colours.get_clim()[1], strict=True):
        x, y = left + box.left, top + box.line * _LINE
        low, high = y + 1.5, y + _LINE - 1.5
        grounds.append([(x, low), (x + box.width, low), (x + box.width, high), (x, high)])
        style = letters(_FONT_SIZE * scale) | {"color": "white" if weight > 0.55 else "black"}
        axes.text(x + box.width / 2, y + _LINE / 2, box.text, ha="center", va="center_baseline", **style)
    axes.add_collection(PolyCollection(grounds, facecolors=colours.to_rgba(weights), edgecolors="none"), autolim=False)


def _laid_out(tokens: Sequence[str]) -> list[_Box]:
    """Where each token stands, wrapped before words, or within one that is longer than a line."""
    words = list(_words(tokens))
    widths = iter(_widths([text for word in words for text in word]))
    boxes: list[_Box] = []
    left, line = 0.0, 0
    for word in words:
        sizes = [next(widths) for _ in word]
        if left > 0.0 and left + sum(sizes) > _WIDTH:
            left, line = 0.0, line + 1
        for text, size in zip(word, sizes, strict=True):
            if left > 0.0 and left + size > _WIDTH:
                left, line = 0.0, line + 1
            boxes.append(_Box(text, left, size, line))
            left += size
        left += _SPACE
    if _is_leftwards(tokens):
        right = max(box.left + box.width for box in boxes)
        return [replace(box, left=right - box.left - box.width) for box in boxes]
    return boxes


def _words(tokens: Sequence[str]) -> Iterator[list[str]]:
    """The tokens, without their marks of spaces, in the words that they form."""
    marked = any(_MARK in token for token in tokens)
    word: list[str] = []
    for token in tokens:
        if word and (not marked or token.startswith(_MARK)):
            yield word
            word = []
        text = printable(token)
        # A token that is nothing but a space keeps its mark: it has a weight to show.
        word.append((text.strip(_MARK).replace(_MARK, " ") or text)[:_LONGEST_TOKEN])
        if marked and token.endswith(_MARK):
            yield word
            word = []
    if word:
        yield word


def _is_leftwards(tokens: Sequence[str]) -> bool:
    """Whether most letters are of a script that is written from right to left."""
    kinds = [unicodedata.bidirectional(letter) for token in tokens for letter in token]
    return sum(kind in ("R", "AL") for kind in kinds) > sum(kind == "L" for kind in kinds)


def _widths(texts: list[str]) -> list[float]:
    """How wide each text is with a little air, in points."""
    figure = new_figure(1.0, 1.0, layout=None)
    artist = figure.text(0.0, 0.0, "", **letters(_FONT_SIZE))
    widths: dict[str, float] = {}
    with quiet():
        for text in set(texts):
            artist.set_text(text)
            widths[text] = artist.get_window_extent().width * 72 / DPI + 1.0 if text else 3.0
    return [widths[text] for text in texts]
