"""Rows of a table: csv, tsv, jsonl, parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from attnbuild.data.readers.columns import Column
from attnbuild.data.readers.files import read_lines
from attnbuild.errors import DataError

__all__ = ["Format", "Located", "format_of", "label_names", "read_json", "read_table"]

Format = Literal["auto", "csv", "tsv", "jsonl", "parquet"]

#: Rows of a parquet file that are in memory at once.
_BATCH = 1024

#: What may be half of a surrogate pair: JSON writes any code unit so.
_SURROGATE = re.compile(r"\\u[dD]")

#: A row as stored, with the file and line that it comes from.
Located = tuple[dict[str, Any], str]


def read_table(path: Path, columns: Iterable[Column], format: Format = "auto") -> Iterator[Located]:
    """The rows of a table with at least the given columns, one at a time.

    Raises:
        DataError: the table cannot be read, or a column is not there; the message names file and line.
    """
    return _FORMATS[format_of(path, format)](path, list(columns))


def format_of(path: Path, chosen: Format = "auto") -> str:
    """How a file is read: as chosen, or by the ending of its name.

    Raises:
        DataError: the ending says nothing.
    """
    if chosen != "auto":
        return chosen
    ending = Path(path.name.removesuffix(".gz")).suffix.lstrip(".").lower()
    ending = {"json": "jsonl", "ndjson": "jsonl"}.get(ending, ending)
    if ending not in _FORMATS:
        raise DataError(f"{path}: unknown kind of table; set data.format to one of: {', '.join(_FORMATS)}")
    return ending


def label_names(path: Path, column: Column) -> list[str] | None:
    """The names of the labels 0, 1, ... that a parquet file of the ``datasets`` library carries, if it does."""
    metadata = _open_parquet(path).schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):  # written by another program
        return None
    return column.label_names(features)


def _read_csv(path: Path, columns: list[Column]) -> Iterator[Located]:
    return _read_delimited(path, columns, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _read_tsv(path: Path, columns: list[Column]) -> Iterator[Located]:
    return _read_delimited(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_delimited(path: Path, columns: list[Column], *, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Located]:
    """The columns asked for, and no others: a table may have a million."""
    # The line end is given back, so that a quoted cell keeps the line breaks within it.
    lines = (line + "\n" for line in read_lines(path))
    table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    first = 1  # line of the row
    try:
        header = next(table, None)
        if header is None:
            return
        places = {column.name: _only(column, header, path) for column in columns}
        first = table.line_num + 1
        for cells in table:
            where = f"{path}:{table.line_num}"
            if cells and len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            yield {name: cells[place] if cells else "" for name, place in places.items()}, where
            first = table.line_num + 1
    except csv.Error as error:
        advice = "; is a quote of the row not closed?" if quoting == csv.QUOTE_MINIMAL else ""
        raise DataError(f"{path}:{first}: {error}{advice}") from error


def _only(column: Column, header: list[str], path: Path) -> int:
    """Where the header has a column."""
    if column.name not in header:
        raise column.missing(header, f"{path}:1")
    if header.count(column.name) > 1:
        raise DataError(f"{path}:1: column {column.name!r} stands there {header.count(column.name)} times")
    return header.index(column.name)


def _read_jsonl(path: Path, columns: list[Column]) -> Iterator[Located]:
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        row = read_json(line, where) if line.strip() else dict.fromkeys(column.name for column in columns)
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield row, where


def read_json(text: str, where: str) -> Any:
    """What a JSON text holds.

    Args:
        text: the text.
        where: file and line, for messages.

    Raises:
        DataError: it is no JSON, is nested too deeply, names a key twice, or has half of a surrogate pair.
    """
    try:
        value = json.loads(text, object_pairs_hook=_named_once)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: has half of a surrogate pair (\\ud800 to \\udfff), which is no character") from error
    except RecursionError as error:
        raise DataError(f"{where}: not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    return value


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.60} stands there twice")
    return named


def _read_parquet(path: Path, columns: list[Column]) -> Iterator[Located]:
    import pyarrow

    file = _open_parquet(path)
    known = file.schema_arrow.names
    stored = sorted({column.stored_in(known, str(path)) for column in columns})
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH, columns=stored):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}: row {number}"
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise DataError(f"{path}: damaged after row {number}: {error}") from error


def _open_parquet(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file: {error}") from error


_FORMATS: dict[str, Callable[[Path, list[Column]], Iterator[Located]]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
