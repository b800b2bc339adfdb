"""Data sets without splits of their own: validation and test held out of train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import xxhash
from annotated_types import Ge, Interval

from attnbuild.data.cache import content_hash
from attnbuild.data.readers.base import SPLITS, Reader, Row, content_of, example_of, hash_rows
from attnbuild.data.readers.stamp import stamp_of
from attnbuild.errors import ConfigError, DataError

__all__ = ["HeldOut", "SplitReader"]

#: Where a split comes from: what stores it; a number of rows held out of train, or a share of them; nowhere.
HeldOut = str | Annotated[int, Ge(1)] | Annotated[float, Interval(gt=0, lt=1)] | None

#: Raise it when other rows are to be held out.
_SEED = 1


class SplitReader(Reader):
    """A reader of stored splits, where a number instead of a name holds rows out of train.

    Which rows are held out is random, but follows from what they hold: the same rows in every run, whatever
    their order, and rows with the same source never lie on both sides. A subclass gives :meth:`stored_rows`.

    Args:
        name: how messages call this data.
        train: what stores the training split; None where there is none.
        validation: what stores the validation split, or how much of train it is.
        test: what stores the test split, or how much of train it is.
    """

    def __init__(self, name: str, train: str | None, validation: HeldOut, test: HeldOut) -> None:
        super().__init__(name)
        chosen = dict(zip(SPLITS, (train, validation, test), strict=True))
        #: What stores each split that is stored.
        self.stored: dict[str, str] = {split: value for split, value in chosen.items() if isinstance(value, str)}
        self._held_out = {split: value for split, value in chosen.items() if isinstance(value, int | float)}
        if self._held_out and train is None:
            split = next(iter(self._held_out))
            raise ConfigError("there is no training data to hold rows out of: set data.train", f"data.{split}")

    @abstractmethod
    def stored_rows(self, split: str) -> Iterator[Row]:
        """The rows of a split that is stored, see :meth:`rows`."""

    def stored_fingerprint(self, split: str) -> str:
        """Hash of a split that is stored, see :meth:`fingerprint`."""
        return hash_rows(self.stored_rows(split))

    def stored_files(self, split: str) -> tuple[Path, ...]:
        """The files of a split that is stored, see :meth:`files`."""
        return ()

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.stored or split in self._held_out)

    def rows(self, split: str) -> Iterator[Row]:
        if self._is_whole(split):
            return self.stored_rows(split)
        return (row for row in self.stored_rows("train") if self._split_of(row) == split)

    def fingerprint(self, split: str) -> str:
        self._require(split)
        if self._is_whole(split):
            return self.stored_fingerprint(split)
        return content_hash("held out", str(_SEED), repr(self._held_out), split, self.stored_fingerprint("train"))

    def stamp(self, split: str) -> str | None:
        if self.source == "text":
            return None  # small, and read anyway
        stamp = stamp_of(self.stored_rows(split if self._is_whole(split) else "train"))
        return stamp and content_hash(stamp, repr(self._held_out))

    def files(self, split: str) -> tuple[Path, ...]:
        return self.stored_files(split if split in self.stored else "train")

    def _is_whole(self, split: str) -> bool:
        """Whether a split is all that is stored of it."""
        return not self._held_out or (split in self.stored and split != "train")

    def _split_of(self, row: Row) -> str:
        """Where a row of the stored training data belongs."""
        key = _key(row)
        return next((split for split, last in self._last_keys.items() if key <= last), "train")

    @cached_property
    def _last_keys(self) -> dict[str, int]:
        """The largest key of every split that is held out: rows in the order of their keys fill one after the other."""
        keys = np.fromiter(
            (_key(row) for row in self.stored_rows("train") if example_of(row, self.keeps_unlabelled)), np.uint64
        )
        keys.sort()
        last: dict[str, int] = {}
        taken = 0
        for split, amount in self._held_out.items():
            taken += amount if isinstance(amount, int) else max(1, round(amount * len(keys)))
            if taken >= len(keys):
                raise DataError(
                    f"{self.name}: data.{split}={amount} leaves nothing of the {len(keys)} rows of train; lower it"
                )
            last[split] = int(keys[taken - 1])
            # Rows of one source have one key and stay together.
            taken = int(np.searchsorted(keys, keys[taken - 1], side="right"))
        return last


def _key(row: Row) -> int:
    """A random number that follows from the source."""
    return xxhash.xxh3_64_intdigest(content_of(row[0]), seed=_SEED)
