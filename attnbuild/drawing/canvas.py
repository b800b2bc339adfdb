"""What all pictures share: letters of any script, and figures that touch no global state of matplotlib."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import LayoutEngine

__all__ = ["DPI", "label", "letters", "new_figure", "printable", "quiet", "save", "set_title"]

#: Pixels in an inch.
DPI = 120

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


def new_figure(width: float, height: float, layout: LayoutEngine | Literal["constrained"] | None) -> Figure:
    """An empty figure of so many inches that can be drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def letters(size: float) -> dict[str, Any]:
    """Options of matplotlib for text of so many points: any script, and no formulas between dollar signs."""
    return {"fontsize": size, "fontfamily": _installed_fonts(), "parse_math": False}


def set_title(figure: Figure, title: str, size: float = 12.0) -> None:
    """Write a title over the whole figure, in several lines where it is long."""
    if title:
        figure.suptitle(printable(title), wrap=True, **letters(size))


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        figure.savefig(path, format="png", dpi=DPI)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence matplotlib about letters that no font has: they are drawn as boxes, and a word each drowns the log."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing from")
        warnings.filterwarnings("ignore", message=r"(?s).*constrained_layout not applied")
        yield


@cache
def _installed_fonts() -> list[str]:
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return [font for font in _FONTS if font in installed]


def label(token: str, longest: int = _LONGEST_LABEL) -> str:
    """A token as a label: printable, and no longer than a label should be."""
    text = printable(token)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str) -> str:
    """Control characters and lone surrogates, which no font can draw, become a middle dot."""
    return "".join("·" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)
