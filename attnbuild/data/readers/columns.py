"""Columns of a table, plain or nested, and what they hold: texts, labels, pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attnbuild.data.pictures import Picture
from attnbuild.data.readers.base import Row, Source, Target
from attnbuild.errors import ConfigError, DataError
from attnbuild.printable import in_one_line

__all__ = ["Column", "Columns", "FindPicture"]

#: Columns that messages name, with so many characters of each; levels of nested ones.
_SHOWN, _LONGEST_NAME, _DEEPEST = 50, 60, 8

#: A label's number as a text.
_NUMBER = re.compile(r"-?\d{1,18}")

#: (name in the cell, file and row) -> the picture file; DataError where there is none.
FindPicture = Callable[[str, str], Path]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        option: the option that names it: ``source`` for ``data.source``.
        name: its name; ``translation.en`` reaches into a nested column. A column whose own name has dots comes first.
    """

    option: str
    name: str

    def stored_in(self, known: Sequence[str], where: str) -> str:
        """The column of the table that this one is or lies in.

        Args:
            known: the table's columns.
            where: the file, for messages.

        Raises:
            DataError: there is none.
        """
        stored = self.name if self.name in known else self.name.split(".")[0]
        if stored not in known:
            raise self.missing(known, where)
        return stored

    def value(self, cells: Mapping[str, Any], where: str) -> Any:
        """What the column holds in a row; None where the cell is empty.

        Args:
            cells: the row.
            where: file and line, for messages.

        Raises:
            DataError: there is no such column.
        """
        value: Any = cells
        for key in [self.name] if self.name in cells else self.name.split("."):
            if value is None:
                return None
            if not isinstance(value, Mapping) or key not in value:
                raise self.missing(_names(cells), where)
            value = value[key]
        return value

    def text(self, cells: Mapping[str, Any], where: str) -> str | None:
        """The text in a row; None where the cell is empty.

        Raises:
            DataError: there is no such column, or it does not hold text.
        """
        value = self.value(cells, where)
        if value is not None and not isinstance(value, str):
            advice = "; for pictures set data.pictures=true" if isinstance(value, Mapping | bytes) else ""
            raise DataError(f"{where}: {self._holds(value)}, not text: {value!r:.60}{advice}")
        return value

    def target(self, cells: Mapping[str, Any], where: str, names: Sequence[str] | None = None) -> Target | None:
        """The text or label in a row, or several of them where the cell is a list; None where it is empty.

        Args:
            cells: the row.
            where: file and line, for messages.
            names: of the labels 0, 1, ...; None where the cells are names or texts themselves.

        Raises:
            DataError: there is no such column, it holds something else, or a number without a name.
        """
        value = self.value(cells, where)
        if isinstance(value, list):
            several = (self._label(item, where, names) for item in value)
            return [text for text in several if text is not None]
        return self._label(value, where, names)

    def picture(self, cells: Mapping[str, Any], where: str, find: FindPicture) -> Picture | None:
        """The picture in a row: the name or bytes of a file, or both as ``datasets`` stores them; None if empty.

        Raises:
            DataError: there is no such column or file, or the cell is no picture.
        """
        value = self.value(cells, where)
        if isinstance(value, Mapping) and {"bytes", "path"} <= set(value):
            value = value["path"] if value["bytes"] is None else value["bytes"]
        if value is None or value == "":
            return None
        if isinstance(value, bytes):
            return Picture(value, in_one_line(where))
        if isinstance(value, str):
            return Picture(find(value, where), in_one_line(f"{where}: {value}"))
        raise DataError(f"{where}: {self._holds(value)}, neither a file name nor the bytes of a picture")

    def missing(self, known: Iterable[str], where: str) -> DataError:
        """The error for a column that is not there, with those that are."""
        shown = [in_one_line(name, _LONGEST_NAME) for name in islice(known, _SHOWN + 1)]
        told = ", ".join([*shown[:_SHOWN], "..."] if len(shown) > _SHOWN else shown)
        return DataError(
            f"{where}: no column {self.name!r}; the columns are: {told or 'none'}; choose by data.{self.option}"
        )

    def label_names(self, features: Mapping[str, Any]) -> list[str] | None:
        """The names of the labels 0, 1, ... that ``datasets`` keeps for the column; None where it keeps none.

        Args:
            features: column name to type, as ``Features.to_dict`` writes it.
        """
        feature: Any = features
        for key in [self.name] if self.name in features else self.name.split("."):
            feature = feature.get(key) if isinstance(feature, Mapping) else None
        while isinstance(feature, Mapping) and "feature" in feature:  # a list of labels
            feature = feature["feature"]
        is_label = isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
        names = feature.get("names") if is_label else None
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None

    def _label(self, value: Any, where: str, names: Sequence[str] | None) -> str | None:
        # Tables store an empty cell among numbers as one that does not equal itself.
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        if names is not None:
            return self._named(value, where, names)
        if isinstance(value, float) and math.isinf(value):
            raise DataError(f"{where}: column {self.name!r} holds a number beyond those that can be told apart")
        if isinstance(value, str | bool | int | float):
            return str(value)
        raise DataError(f"{where}: {self._holds(value)}, neither text nor a label: {value!r:.60}")

    def _named(self, value: Any, where: str, names: Sequence[str]) -> str | None:
        """The name of a label's number; -1 is how `datasets` says that there is none."""
        if isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
            number = int(value)
            if number == -1:
                return None
            if 0 <= number < len(names):
                return names[number]
        raise DataError(f"{where}: column {self.name!r} holds {value!r:.60}; the labels go from 0 to {len(names) - 1}")

    def _holds(self, value: Any) -> str:
        return f"column {self.name!r} holds {type(value).__name__}"


class Columns:
    """The columns that make an example.

    Args:
        source: column of the text or picture that is read.
        target: column of the text or label that is to be said.
        pair: column of a second text that is read beside the first; None where there is none.
        pictures: whether the source column holds pictures.
    """

    def __init__(self, source: str, target: str, pair: str | None, pictures: bool) -> None:
        if pair is not None and pictures:
            raise ConfigError("a picture has no second text beside it; set it to null", "data.pair")
        self.source = Column("source", source)
        self.target = Column("target", target)
        self.pair = None if pair is None else Column("pair", pair)
        self.pictures = pictures

    def __iter__(self) -> Iterator[Column]:
        return iter([self.source, self.target] if self.pair is None else [self.source, self.target, self.pair])

    def row(self, cells: Mapping[str, Any], where: str, find: FindPicture, names: Sequence[str] | None) -> Row:
        """Source and target of a row of the table.

        Args:
            cells: the row.
            where: file and line, for messages.
            find: finds a picture file.
            names: of the labels 0, 1, ...; None where the cells are names or texts themselves.
        """
        return self.source_of(cells, where, find), self.target.target(cells, where, names)

    def source_of(self, cells: Mapping[str, Any], where: str, find: FindPicture) -> Source | None:
        """The source of a row alone: a text, a pair or a picture; None where a cell is empty."""
        if self.pictures:
            return self.source.picture(cells, where, find)
        text = self.source.text(cells, where)
        if self.pair is None:
            return text
        second = self.pair.text(cells, where)
        return None if text is None or second is None else (text, second)


def _names(cells: Mapping[str, Any], prefix: str = "", depth: int = 0) -> list[str]:
    names = []
    for key, value in cells.items():
        nested = _names(value, f"{prefix}{key}.", depth + 1) if isinstance(value, Mapping) and depth < _DEEPEST else []
        names += nested or [f"{prefix}{key}"]
    return names
