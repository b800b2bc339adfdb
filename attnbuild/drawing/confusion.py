"""What a classifier takes for what: the confusion matrix as a picture, and the scores of each label as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnbuild.drawing.canvas import label, letters, new_figure, save, set_title

__all__ = ["draw_confusion", "per_class_table"]

#: Up to so many labels the counts are written into the cells.
_WRITTEN = 20
#: Inches of a cell with and without a number, the longest side of the matrix, and what a label needs to be read.
_NUMBERED, _PLAIN, _LONGEST_SIDE, _READABLE = 0.45, 0.24, 24.0, 0.09


def draw_confusion(matrix: np.ndarray, labels: Sequence[str], path: Path, title: str = "") -> Path:
    """Draw which label was taken for which: right labels down, predicted ones across.

    The colour is the share of the row, so the diagonal shows the recall of each label; the numbers are counts.

    Args:
        matrix: (labels, labels) counts.
        labels: their names.
        path: the PNG to write.
        title: written above.

    Returns:
        The file written.

    Raises:
        ValueError: the labels do not fit the matrix.
    """
    count = len(labels)
    if matrix.shape != (count, count):
        raise ValueError(f"a matrix {matrix.shape} does not fit {count} labels")
    counts = matrix.astype(np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    cell = min(_NUMBERED if count <= _WRITTEN else _PLAIN, _LONGEST_SIDE / max(count, 1))
    names = [label(name) for name in labels]
    style = letters(min(9.0, max(4.0, 72 * cell * 0.7)))
    # The margin holds the labels, the title and the scale of colours.
    figure = new_figure(count * cell + 3.2, count * cell + 2.6, "constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    # Where the cells are too small for a name each, every second or third is written.
    shown = list(range(0, count, max(1, math.ceil(_READABLE / cell))))
    axes.set_xticks(shown, labels=[names[place] for place in shown], rotation=90, **style)
    axes.set_yticks(shown, labels=[names[place] for place in shown], **style)
    axes.tick_params(length=0)
    size = 10.0 + count * cell / 3  # what is written once stays legible on a large picture
    axes.set_xlabel("predicted", fontsize=size)
    axes.set_ylabel("right", fontsize=size)
    if count <= _WRITTEN:
        for (row, column), number in np.ndenumerate(counts):
            ink = "white" if shares[row, column] > 0.6 else "black" if number else "silver"
            axes.text(column, row, _short(number), ha="center", va="center", fontsize=8.0, color=ink)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, shrink=min(1.0, 6.0 / (count * cell)))
    bar.set_label("share of the row", fontsize=size)
    set_title(figure, title, size + 2.0)
    save(figure, path)
    return path


def _short(number: float) -> str:
    """A count in at most five letters."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 10 * size:
            return f"{number / size:.0f}{unit}"
    return f"{number:.0f}"


def per_class_table(
    labels: Sequence[str],
    precision: Sequence[float],
    recall: Sequence[float],
    f1: Sequence[float],
    support: Sequence[int],
) -> str:
    """The scores of each label as a table in Markdown, a line a label.

    Raises:
        ValueError: the columns differ in length.
    """
    rows: list[tuple[str, ...]] = [("label", "precision", "recall", "F1", "support")]
    for name, *scores, examples in zip(labels, precision, recall, f1, support, strict=True):
        shown = label(name, 60).replace("|", r"\|")
        rows.append((shown, *(f"{float(score):.3f}" for score in scores), str(int(examples))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    rule = " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "".join(f"| {line} |\n" for line in [lines[0], rule, *lines[1:]])
