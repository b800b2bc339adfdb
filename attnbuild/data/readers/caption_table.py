"""A folder of pictures and a table of their captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from attnbuild.data.pictures import Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Modality, Row
from attnbuild.data.readers.columns import Column
from attnbuild.data.readers.files import Root, find_picture, read_lines
from attnbuild.data.readers.formats import Format, read_table
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.errors import ConfigError, DataError
from attnbuild.printable import in_one_line
from attnbuild.registry import register

__all__ = ["CaptionTableReader"]

#: Picture file name -> where the table has it first, and its captions.
Captions = dict[str, tuple[str, list[str]]]

_ONE_SPLIT = "a picture belongs to one split"


@register("data", "caption_table")
class CaptionTableReader(SplitReader):
    """Pictures and a table of captions, one caption or a list of them a row: csv, tsv, jsonl or parquet.

    All captions of a picture make one example, wherever they stand. The splits are told in one of three ways:
    by files that list the pictures of a split, one a line; by a column of the table (``split``); or by a table
    for each (``table: null``).

    Args:
        place: what the builder knows.
        path: folder of the data set, absolute or under the root.
        table: table of all captions; null where train, validation and test name tables of their own.
        image: column of the picture's file name.
        caption: column of the caption.
        split: column that says the split; null where there is none.
        images: folder of the pictures under the path.
        root: folder that a relative path is looked for in first; null means $ATTNBUILD_DATA.
        train: list of the training pictures; with split, the value that says train; without a table, a table.
        validation: the same for validation; a number or a share below 1 holds so much of train out; null: none.
        test: the same for testing; a number or a share below 1 holds so much of train out; null: none.
        format: how to read the tables; auto goes by the ending of the name.
    """

    source: ClassVar[Modality] = "image"
    targets: ClassVar[tuple[str, ...]] = ("captions",)

    def __init__(
        self,
        place: DataPlace,
        *,
        path: str,
        table: str | None = "captions.tsv",
        image: str = "image",
        caption: str = "caption",
        split: str | None = None,
        images: str = "images",
        root: str | None = None,
        train: str | None = "train_images.txt",
        validation: HeldOut = "validation_images.txt",
        test: HeldOut = "test_images.txt",
        format: Format = "auto",
    ) -> None:
        super().__init__(f"caption_table {path}", train, validation, test)
        if split is not None and table is None:
            raise ConfigError(
                "names a column of data.table, which is null; a table for each split needs none", "data.split"
            )
        self._path = path
        self._table = table
        self._image = Column("image", image)
        self._caption = Column("caption", caption)
        self._split = None if split is None else Column("split", split)
        self._images = images
        self._root = Root.choose(root)
        self._format: Format = format

    def stored_rows(self, split: str) -> Iterator[Row]:
        folder = self._folder()
        captions = self._captions(split)
        for name in captions if self._table is None or self._split else self._listed(split, captions):
            where, several = captions[name]
            path = find_picture(name, where, (folder / self._images, folder))
            yield Picture(path, in_one_line(f"{where}: {name}")), several

    def stored_files(self, split: str) -> tuple[Path, ...]:
        return tuple(self._file(name, option) for name, option in self._names(split))

    def _names(self, split: str) -> list[tuple[str, str]]:
        """The files that a split is read from, with the options that name them."""
        own = (self.stored[split], f"data.{split}")
        if self._table is None:
            return [own]
        return [(self._table, "data.table")] if self._split else [(self._table, "data.table"), own]

    def _captions(self, split: str) -> Captions:
        """The captions of a split's table, or of its part of the table."""
        columns = [self._image, self._caption, *([self._split] if self._split else [])]
        found: Captions = {}
        elsewhere: dict[str, str] = {}
        for cells, where in read_table(self.stored_files(split)[0], columns, self._format):
            name = self._image.text(cells, where)
            if self._split and (stored := self._split.text(cells, where)) != self.stored[split]:
                if name and stored in self.stored.values():
                    elsewhere.setdefault(name, where)
                continue
            caption = self._caption.target(cells, where)
            if not name and not caption:  # an empty line
                continue
            if not name:
                raise DataError(f"{where}: column {self._image.name!r} names no picture")
            several = found.setdefault(name, (where, []))[1]
            several += caption if isinstance(caption, list) else [caption or ""]
        for name, (where, _) in found.items():
            if name in elsewhere:
                raise DataError(f"{where}: {name!r} is in another split at {elsewhere[name]}; {_ONE_SPLIT}")
        return found

    def _listed(self, split: str, captions: Captions) -> Iterator[str]:
        """The pictures that the list of a split names; each must have captions and be in no other list."""
        taken = {
            line.strip(): path
            for other in self.stored
            if other != split
            for path in self.stored_files(other)[1:]
            for line in read_lines(path)
        }
        path = self.stored_files(split)[1]
        names: set[str] = set()
        for number, line in enumerate(read_lines(path), start=1):
            name = line.strip()
            if not name or name in names:
                continue
            if name not in captions:
                raise DataError(f"{path}:{number}: no caption for {name!r} in {self.stored_files(split)[0]}")
            if name in taken:
                raise DataError(f"{path}:{number}: {name!r} is in {taken[name]} too; {_ONE_SPLIT}")
            names.add(name)
            yield name

    def _folder(self) -> Path:
        return self._root.find_folder(self._path, "data.path")

    def _file(self, name: str, option: str) -> Path:
        return Root(self._folder(), "data.path").find(name, option)
