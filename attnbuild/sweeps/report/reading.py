"""Small files of run folders, which come from anybody: read within bounds, told about where they are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnbuild.drawing.canvas import printable

__all__ = ["Notes", "as_number", "as_text", "as_texts", "numbers", "read_json"]

#: No file that is read here is as large; one that is was not written by a run.
_LARGEST = 16 * 2**20

#: Longer texts are cut: a page is no log.
_LONGEST = 4000


class Notes:
    """What could not be read and why, one line each, for the page to tell."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, path: Path, what: object) -> None:
        """Note that something is wrong with a file."""
        self.lines.append(as_text(f"{path}: {what}").replace("\n", " "))


def read_json(path: Path, notes: Notes) -> dict[str, Any] | None:
    """The object in a file; None where there is none, or none that can be read, which is noted."""
    try:
        if path.stat().st_size > _LARGEST:
            notes.add(path, f"larger than {_LARGEST // 2**20} MB: not read")
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        notes.add(path, error.strerror or error)
        return None
    except (ValueError, RecursionError) as error:
        notes.add(path, f"cannot be read: {error}")
        return None
    if not isinstance(values, dict):
        notes.add(path, "holds no object")
        return None
    return values


def as_number(value: object) -> float | None:
    """A finite number as such; None for anything else, of which JSON files of strangers are full."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_text(value: object, longest: int = _LONGEST) -> str:
    """Anything as text to show: no control characters but the end of a line, and not without end."""
    lines = str(value).split("\n") if value is not None else []
    text = "\n".join(printable(line.rstrip("\r")) for line in lines)
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest} more characters)"


def as_texts(values: object) -> list[str]:
    """A list of words as texts; none where it is no list."""
    return [as_text(value) for value in values] if isinstance(values, list) else []


def numbers(values: Mapping[str, object], names: Iterable[str]) -> dict[str, float]:
    """The finite numbers among some values."""
    found = {name: as_number(values.get(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}
