"""What every reader of examples is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import xxhash

from attnbuild.data.pictures import Picture
from attnbuild.errors import DataError

__all__ = [
    "SPLITS",
    "Example",
    "Modality",
    "Reader",
    "Row",
    "Source",
    "Target",
    "content_of",
    "example_of",
    "hash_rows",
]

#: The names of the parts of a data set, everywhere.
SPLITS = ("train", "validation", "test")

Modality = Literal["text", "image"]

#: What is read: a text, a pair of texts or a picture.
Source = str | tuple[str, str] | Picture

#: What is to be said of it: one text or label, or several.
Target = str | list[str]

#: Source and target as stored; None where a cell is empty.
Row = tuple[Source | None, Target | None]


#: ``{"source": ..., "target": ...}``: a row with both sides, without surrounding white space.
Example = dict[str, Any]


class Reader(ABC):
    """A source of examples in up to three splits.

    Reading is lazy: a split may be larger than memory. A subclass gives :meth:`splits` and
    :meth:`rows`; surrounding white space and rows with an empty side are dealt with here.

    Attributes:
        source: what the source side holds.
        by_option: what it holds with an option of ``data`` set, and that option.
        targets: what the target side can serve as: ``text`` (a sentence), ``captions`` (several
            sentences), ``labels`` (one name or several).
        name: how messages call this data, such as ``text en-de``.
        keeps_unlabelled: whether a row with an empty list of labels is an example, as it is where an example may
            have any number of labels.
    """

    source: ClassVar[Modality] = "text"
    by_option: ClassVar[Mapping[Modality, str]] = {}
    targets: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.keeps_unlabelled = False
        self._skipped: dict[str, int] = {}

    @classmethod
    def source_modality(cls, options: Mapping[str, Any]) -> Modality:
        """What the source side holds under some options, told before the reader is built."""
        return cls.source

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Those of ``train``, ``validation`` and ``test`` that this data has."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[Row]:
        """Source and target of every row as stored; None where a cell is empty.

        Raises:
            DataError: the data cannot be read; the message names file and line.
        """

    def read(self, split: str) -> Iterator[Example]:
        """The examples of a split, in the order of the data, without surrounding white space.

        Rows with an empty side are counted, see :meth:`skipped`, and left out.

        Raises:
            DataError: there is no such split, it holds no example, or it cannot be read.
        """
        self._require(split)
        kept = skipped = 0
        for row in self.rows(split):
            example = example_of(row, self.keeps_unlabelled)
            if example is None:
                skipped += 1
            else:
                kept += 1
                yield example
        self._skipped[split] = skipped
        if not kept:
            found = f"only {skipped} rows with an empty side" if skipped else "it is empty"
            files = " and ".join(map(str, self.files(split)))
            raise DataError(f"{self.name}: no example in {split}: {found}{files and f' ({files})'}")

    def files(self, split: str) -> tuple[Path, ...]:
        """The files that a split is read from, for messages; none where it does not lie in files."""
        return ()

    def skipped(self) -> dict[str, int]:
        """Rows left out for an empty side, by split, of the splits read to the end so far."""
        return dict(self._skipped)

    def fingerprint(self, split: str) -> str:
        """Hash of what :meth:`read` gives: of the content, not of a path or a time.

        This one reads the split; a subclass that can tell sooner overrides it.
        """
        self._require(split)
        return hash_rows(self.rows(split))

    def stamp(self, split: str) -> str | None:
        """What changes whenever the content of a split does and is told without reading all of it; None: nothing is.

        It may change although the content does not: when files are touched or moved.
        """
        return None

    def _require(self, split: str) -> None:
        if split not in self.splits():
            raise DataError(f"{self.name}: has no split {split!r}, only {', '.join(self.splits()) or 'none'}")


def example_of(row: Row, keeps_unlabelled: bool = False) -> Example | None:
    """A row without surrounding white space and empty members; None where a side is empty.

    Args:
        row: source and target as stored.
        keeps_unlabelled: an empty list is a target, of no labels; an empty cell is none.
    """
    source, target = row
    if isinstance(source, tuple):
        first, second = (text.strip() for text in source)
        source = (first, second) if first and second else None
    elif isinstance(source, str):
        source = source.strip()
    if isinstance(target, list):
        target = [text for text in map(str.strip, target) if text]
    elif target is not None:
        target = target.strip()
    answered = bool(target) or (keeps_unlabelled and isinstance(target, list))
    return {"source": source, "target": target} if source and answered and target is not None else None


def hash_rows(rows: Iterable[Row]) -> str:
    """Hash of the content of rows, and of what picture files are called, since examples are named by it."""
    state = xxhash.xxh3_128()
    for source, target in rows:
        state.update(content_of(source))
        if isinstance(source, Picture) and isinstance(source.data, Path):
            state.update(os.fsencode(source.data.name))
        state.update(content_of(target))
    return state.hexdigest()


def content_of(value: Source | Target | None) -> bytes:
    """What tells a value from others, to be hashed: the bytes of two different values differ.

    Raises:
        DataError: a picture cannot be read.
    """
    kind, parts = _parts(value)
    sized = (len(part).to_bytes(8, "little") + part for part in parts)
    return kind + len(parts).to_bytes(8, "little") + b"".join(sized)


def _parts(value: Source | Target | None) -> tuple[bytes, list[bytes]]:
    """One letter for the type, and the contents."""
    match value:
        case None:
            return b"n", []
        case str():
            return b"s", [value.encode()]
        case Picture():
            return b"p", [value.content()]
        case tuple():
            return b"t", [text.encode() for text in value]
        case list():
            return b"l", [text.encode() for text in value]
