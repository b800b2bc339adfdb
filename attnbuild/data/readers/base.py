"""What every reader of sentence pairs is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import xxhash

from attnbuild.errors import DataError

__all__ = ["SPLITS", "Reader"]

#: The names of the parts of a data set, everywhere.
SPLITS = ("train", "validation", "test")


class Reader(ABC):
    """A source of sentence pairs in up to three splits.

    Reading is lazy: a split may be larger than memory. A subclass gives :meth:`splits` and
    :meth:`rows`; surrounding white space and rows with an empty side are dealt with here.

    Attributes:
        provides: what a row is: ``pairs`` are ``{"source": str, "target": str}``.
        name: how messages call this data, such as ``text en-de``.
    """

    provides: ClassVar[str] = "pairs"

    def __init__(self, name: str) -> None:
        self.name = name
        self._skipped: dict[str, int] = {}

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Those of ``train``, ``validation`` and ``test`` that this data has."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[tuple[str | None, str | None]]:
        """Source and target of every row as stored; None where a cell is empty.

        Raises:
            DataError: the data cannot be read; the message names file and line.
        """

    def read(self, split: str) -> Iterator[dict[str, str]]:
        """The sentence pairs of a split, in the order of the data, without surrounding white space.

        Rows with an empty side are counted, see :meth:`skipped`, and left out.

        Raises:
            DataError: there is no such split, it holds no pair, or it cannot be read.
        """
        self._require(split)
        kept = skipped = 0
        for source, target in self.rows(split):
            source, target = (source or "").strip(), (target or "").strip()
            if source and target:
                kept += 1
                yield {"source": source, "target": target}
            else:
                skipped += 1
        self._skipped[split] = skipped
        if not kept:
            found = f"only {skipped} rows with an empty side" if skipped else "it is empty"
            files = " and ".join(map(str, self.files(split)))
            raise DataError(f"{self.name}: no sentence pair in {split}: {found}{files and f' ({files})'}")

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
        state = xxhash.xxh3_128()
        for row in self.rows(split):
            for side in row:
                data = (side or "").encode()
                state.update(len(data).to_bytes(8, "little"))
                state.update(data)
        return state.hexdigest()

    def _require(self, split: str) -> None:
        if split not in self.splits():
            raise DataError(f"{self.name}: has no split {split!r}, only {', '.join(self.splits()) or 'none'}")
