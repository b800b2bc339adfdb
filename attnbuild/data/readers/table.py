"""Tables with a source and a target column: csv, tsv, jsonl, parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from attnbuild.data.cache import content_hash
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Reader
from attnbuild.data.readers.columns import missing_column, text_at
from attnbuild.data.readers.files import Root, hash_file, read_lines
from attnbuild.errors import DataError
from attnbuild.registry import register

__all__ = ["TableReader"]

#: A row as stored, with the file and line that it comes from.
Located = tuple[dict[str, Any], str]


@register("data", "table")
class TableReader(Reader):
    """Tables with a source and a target column: csv, tsv, jsonl or parquet.

    A csv or tsv file starts with a header; csv knows double quotes, tsv knows no quoting. A jsonl
    file holds one object a line. In jsonl and parquet ``translation.en`` names a nested column.

    Args:
        place: what the builder knows.
        source: column to translate from.
        target: column to translate into.
        root: folder of the files; null means $ATTNBUILD_DATA, then the working directory.
        train: file of the training data; null means there is none.
        validation: file of the validation data; null means there is none.
        test: file of the test data; null means there is none.
        format: how to read the files; auto goes by the ending of the name.
    """

    def __init__(
        self,
        place: DataPlace,
        *,
        source: str = "source",
        target: str = "target",
        root: str | None = None,
        train: str | None = "train.csv",
        validation: str | None = "validation.csv",
        test: str | None = "test.csv",
        format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = "auto",
    ) -> None:
        super().__init__(f"table {source}-{target}")
        self._columns = (source, target)
        self._root = Root.choose(root)
        self._files = dict(zip(SPLITS, (train, validation, test), strict=True))
        self._format = format

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split, name in self._files.items() if name is not None)

    def rows(self, split: str) -> Iterator[tuple[str | None, str | None]]:
        path = self._path(split)
        source, target = self._columns
        for row, where in _FORMATS[self._format_of(path)](path, self._columns):
            yield text_at(row, source, where), text_at(row, target, where)

    def fingerprint(self, split: str) -> str:
        self._require(split)
        path = self._path(split)
        return content_hash("table", self._format_of(path), *self._columns, hash_file(path))

    def files(self, split: str) -> tuple[Path, ...]:
        return (self._path(split),)

    def _path(self, split: str) -> Path:
        return self._root.find(str(self._files[split]), f"data.{split}")

    def _format_of(self, path: Path) -> str:
        if self._format != "auto":
            return self._format
        ending = Path(path.name.removesuffix(".gz")).suffix.lstrip(".").lower()
        ending = {"json": "jsonl", "ndjson": "jsonl"}.get(ending, ending)
        if ending not in _FORMATS:
            raise DataError(f"{path}: unknown kind of table; set data.format to one of: {', '.join(_FORMATS)}")
        return ending


def _read_csv(path: Path, columns: tuple[str, str]) -> Iterator[Located]:
    return _read_delimited(path, columns, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _read_tsv(path: Path, columns: tuple[str, str]) -> Iterator[Located]:
    return _read_delimited(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_delimited(
    path: Path, columns: tuple[str, str], *, delimiter: str, quoting: Literal[0, 3]
) -> Iterator[Located]:
    # The line end is given back, so that a quoted cell keeps the line breaks within it.
    lines = (line + "\n" for line in read_lines(path))
    table = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = next(table, None)
        if header is None:
            return
        for column in columns:
            if column not in header:
                raise missing_column(column, header, f"{path}:1")
        for cells in table:
            where = f"{path}:{table.line_num}"
            if cells and len(cells) != len(header):
                raise DataError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            yield dict(zip(header, cells or [""] * len(header), strict=True)), where
    except csv.Error as error:
        raise DataError(f"{path}:{table.line_num}: {error}") from error


def _read_jsonl(path: Path, columns: tuple[str, str]) -> Iterator[Located]:
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line) if line.strip() else dict.fromkeys(columns)
        except ValueError as error:
            raise DataError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
        yield row, where


def _read_parquet(path: Path, columns: tuple[str, str]) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        roots = [column if column in file.schema_arrow.names else column.split(".")[0] for column in columns]
        for column, root in zip(columns, roots, strict=True):
            if root not in file.schema_arrow.names:
                raise missing_column(column, file.schema_arrow.names, str(path))
        number = 0
        for batch in file.iter_batches(columns=sorted(set(roots))):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}: row {number}"
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file: {error}") from error


_FORMATS: dict[str, Callable[[Path, tuple[str, str]], Iterator[Located]]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
