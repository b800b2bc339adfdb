"""Tables with a source and a target column: csv, tsv, jsonl, parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from attnbuild.data.cache import content_hash
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Modality, Row
from attnbuild.data.readers.columns import Columns
from attnbuild.data.readers.files import Root, find_picture, hash_file
from attnbuild.data.readers.formats import Format, format_of, label_names, read_table
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.registry import register

__all__ = ["TableReader"]


@register("data", "table")
class TableReader(SplitReader):
    """Tables with a source and a target column: csv, tsv, jsonl or parquet.

    A csv or tsv file starts with a header; csv knows double quotes, tsv knows no quoting. A jsonl
    file holds one object a line. In jsonl and parquet ``translation.en`` names a nested column, and a
    target cell may be a list: several captions or labels.

    Args:
        place: what the builder knows.
        source: column that is read: a text or, with pictures, the file name or bytes of a picture.
        target: column that is to be said: a text, or a label as text, number or true and false.
        pair: column of a second text that is read beside the first; null means there is none.
        pictures: whether the source column holds pictures; file names are relative to the table or the root.
        label_names: names of the labels 0, 1, ... where the target holds such numbers; null keeps what is stored.
        root: folder of the files; null means $ATTNBUILD_DATA, then the working directory.
        train: file of the training data; null means there is none.
        validation: file of the validation data; a number or a share below 1 holds so much of train out.
        test: file of the test data; a number or a share below 1 holds so much of train out.
        format: how to read the files; auto goes by the ending of the name.
    """

    targets: ClassVar[tuple[str, ...]] = ("text", "captions", "labels")
    by_option: ClassVar[Mapping[Modality, str]] = {"image": "data.pictures=true"}

    def __init__(
        self,
        place: DataPlace,
        *,
        source: str = "source",
        target: str = "target",
        pair: str | None = None,
        pictures: bool = False,
        label_names: list[str] | None = None,
        root: str | None = None,
        train: str | None = "train.csv",
        validation: HeldOut = "validation.csv",
        test: HeldOut = "test.csv",
        format: Format = "auto",
    ) -> None:
        super().__init__(f"table {source}-{target}", train, validation, test)
        self._columns = Columns(source, target, pair, pictures)
        self._label_names = label_names
        self._root = Root.choose(root)
        self._format: Format = format

    @classmethod
    def source_modality(cls, options: Mapping[str, Any]) -> Modality:
        return "image" if options.get("pictures") else "text"

    def stored_rows(self, split: str) -> Iterator[Row]:
        (path,) = self.stored_files(split)
        names = self._names(path)
        find = partial(find_picture, folders=(path.parent, *self._root.folders()))
        for cells, where in read_table(path, self._columns, self._format):
            yield self._columns.row(cells, where, find, names)

    def stored_fingerprint(self, split: str) -> str:
        if self._columns.pictures:  # a table may only name them, and the name does not tell the content
            return super().stored_fingerprint(split)
        (path,) = self.stored_files(split)
        columns = (f"{column.option}={column.name}" for column in self._columns)
        return content_hash("table", format_of(path, self._format), *columns, repr(self._names(path)), hash_file(path))

    def stored_files(self, split: str) -> tuple[Path, ...]:
        return (self._root.find(self.stored[split], f"data.{split}"),)

    def _names(self, path: Path) -> list[str] | None:
        """Names of the labels: as told, else as a parquet file of ``datasets`` carries them."""
        if self._label_names is None and format_of(path, self._format) == "parquet":
            return label_names(path, self._columns.target)
        return self._label_names
