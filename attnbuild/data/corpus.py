"""Examples as arrays, encoded once, kept in the cache and mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.fingerprints import fingerprint
from attnbuild.data.ragged import RaggedArray, RaggedWriter
from attnbuild.data.readers.base import Reader
from attnbuild.data.sides.base import Side
from attnbuild.errors import DataError

__all__ = ["Corpus", "encode"]

#: Part of every key: raise it when the files change their form.
_FORMAT = "corpus-3"

#: Examples encoded together; the pixels of so many images are in memory at once.
_CHUNK = 512
_COUNTS = "counts.json"

#: Longer than any example.
_NO_LENGTH = np.iinfo(np.int32).max
_SIDES = ("source", "target")


class Corpus:
    """The examples of a split: encoded sides and raw text. Works for data larger than memory.

    Attributes:
        widths: tokens that source and target of every example take in a batch, end of sentence
            included, shape (examples, 2), int32.
        skipped: rows of the data left out for an empty side.
        too_long: examples left out for their length; only the training split leaves any out.
        shortest: tokens of the longer side of the shortest example.

    Args:
        folder: what :func:`encode` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        counts = json.loads((folder / _COUNTS).read_text(encoding="utf-8"))
        dtypes = [np.dtype(name).type for name in counts["dtypes"]]
        self._rows = [RaggedArray(folder / side, dtype) for side, dtype in zip(_SIDES, dtypes, strict=True)]
        self._texts = [RaggedArray(folder / f"{side}_text", np.uint8) for side in _SIDES]
        self.skipped: int = counts["skipped"]
        self.too_long: int = counts["too_long"]
        self.shortest: int = counts["shortest"]
        self.widths = np.fromfile(folder / "widths", np.int32).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._rows[0])

    def rows(self, indices: Sequence[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Source and target of some examples, as their sides stored them, each of shape (length,)."""
        source, target = self._rows
        return [source[index] for index in indices], [target[index] for index in indices]

    def texts(self, indices: Sequence[int]) -> tuple[list[str], list[str]]:
        """Source and target of some examples as a person reads them."""
        source, target = self._texts
        return (
            [source[index].tobytes().decode() for index in indices],
            [target[index].tobytes().decode() for index in indices],
        )

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path]]:
        # Another process maps the same files instead of getting a copy.
        return Corpus, (self._folder,)


def encode(reader: Reader, split: str, sides: tuple[Side, Side], *, cache_dir: Path, max_length: int) -> Corpus:
    """The corpus of a split, encoded now or taken from the cache. The data is streamed.

    Args:
        reader: the data.
        split: ``train``, ``validation`` or ``test``.
        sides: encode the sources and the targets.
        cache_dir: folder of the cache.
        max_length: tokens of a side, end of sentence included, that an example of the training split
            may have; the other splits keep every example.

    Raises:
        DataError: the data cannot be read, nothing is left of it, or the cache cannot be written.
    """
    limit = max_length if split == "train" else None
    key = content_hash(
        _FORMAT, fingerprint(reader, split, cache_dir), *(side.fingerprint() for side in sides), str(limit)
    )

    def make(folder: Path) -> None:
        for name, side in zip(_SIDES, sides, strict=True):
            if side.checks:
                side.check(row[name] for row in reader.read(split))
        too_long, shortest = _write(folder, reader.read(split), sides, limit)
        dtypes = [np.dtype(side.dtype).name for side in sides]
        counts = {"skipped": reader.skipped()[split], "too_long": too_long, "shortest": shortest, "dtypes": dtypes}
        (folder / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")

    try:
        corpus = Corpus(cached_folder(cache_dir / "corpora", key, make))
    except DataError as error:
        raise DataError(f"{reader.name}, {split}: {error}") from error
    if not len(corpus):
        raise DataError(
            f"{reader.name}: all {corpus.too_long} examples of {split} are longer than {max_length} tokens: "
            f"set batch.max_length={corpus.shortest} or more"
        )
    return corpus


def _write(
    folder: Path, rows: Iterator[dict[str, Any]], sides: tuple[Side, Side], limit: int | None
) -> tuple[int, int]:
    """Encode the rows into files; returns how many were too long, and the length of the shortest."""
    too_long, shortest = 0, _NO_LENGTH
    with (
        RaggedWriter(folder / "source", sides[0].dtype) as source,
        RaggedWriter(folder / "target", sides[1].dtype) as target,
        RaggedWriter(folder / "source_text", np.uint8) as source_text,
        RaggedWriter(folder / "target_text", np.uint8) as target_text,
        (folder / "widths").open("wb") as all_widths,
    ):
        while chunk := list(islice(rows, _CHUNK)):
            values = [[row[name] for row in chunk] for name in _SIDES]
            stored = [side.encode(column) for side, column in zip(sides, values, strict=True)]
            widths = np.array([[side.width(row) for row in rows] for side, rows in zip(sides, stored, strict=True)])
            kept = [row for row in range(len(chunk)) if limit is None or widths[:, row].max() <= limit]
            too_long += len(chunk) - len(kept)
            shortest = min(shortest, int(widths.max(axis=0).min()))
            all_widths.write(widths[:, kept].T.astype(np.int32).tobytes())
            for writer, column in zip((source, target), stored, strict=True):
                writer.extend([column[row] for row in kept])
            for writer, side, column in zip((source_text, target_text), sides, values, strict=True):
                writer.extend([np.frombuffer(side.text(column[row]).encode(), np.uint8) for row in kept])
    return too_long, shortest
