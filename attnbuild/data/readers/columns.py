"""Two text columns of a table, plain or nested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attnbuild.errors import DataError

__all__ = ["missing_column", "text_at"]


def text_at(row: Mapping[str, Any], column: str, where: str) -> str | None:
    """The text in a column of a row; ``translation.en`` reaches into nested columns.

    Args:
        row: column name to value.
        column: a name, or names joined by dots. A column whose own name has dots comes first.
        where: file and line, for messages.

    Returns:
        The text, or None where the cell is empty.

    Raises:
        DataError: there is no such column, or it does not hold text.
    """
    value: Any = row
    for key in [column] if column in row else column.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or key not in value:
            raise missing_column(column, _names(row), where)
        value = value[key]
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: column {column!r} holds {type(value).__name__}, not text: {value!r:.60}")
    return value


def missing_column(column: str, known: Iterable[str], where: str) -> DataError:
    """The error for a column that is not there, with those that are."""
    return DataError(
        f"{where}: no column {column!r}; the columns are: {', '.join(known) or 'none'}; "
        "choose by data.source and data.target"
    )


def _names(row: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in row.items():
        nested = _names(value, f"{prefix}{key}.") if isinstance(value, Mapping) else []
        names += nested or [f"{prefix}{key}"]
    return names
