"""Sentence pairs as ids, encoded once, kept in the cache and mapped into memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.ragged import RaggedArray, RaggedWriter
from attnbuild.data.readers.base import Reader
from attnbuild.data.tokenizers.vocabulary import Vocabulary
from attnbuild.errors import DataError

__all__ = ["Corpus", "encode"]

#: Part of every key: raise it when the files change their form.
_FORMAT = "corpus-1"

_CHUNK = 4096
_COUNTS = "counts.json"


class Corpus:
    """The sentence pairs of a split: ids and raw text. Works for data larger than memory.

    Attributes:
        lengths: tokens of source and target of every pair, end of sentence included,
            shape (pairs, 2), int32.
        skipped: rows of the data left out for an empty side.
        too_long: pairs left out for their length; only the training split leaves any out.

    Args:
        folder: what :func:`encode` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = [RaggedArray(folder / f"{side}_ids", np.int32) for side in ("source", "target")]
        self._texts = [RaggedArray(folder / f"{side}_text", np.uint8) for side in ("source", "target")]
        counts = json.loads((folder / _COUNTS).read_text(encoding="utf-8"))
        self.skipped: int = counts["skipped"]
        self.too_long: int = counts["too_long"]
        self.lengths = np.stack([side.lengths() + 1 for side in self._ids], axis=1).astype(np.int32)

    def __len__(self) -> int:
        return len(self._ids[0])

    def rows(self, indices: Sequence[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Source and target ids of some pairs, each of shape (length,), int32, without special tokens."""
        source, target = self._ids
        return [source[index] for index in indices], [target[index] for index in indices]

    def texts(self, indices: Sequence[int]) -> tuple[list[str], list[str]]:
        """Raw source and target text of some pairs."""
        source, target = self._texts
        return (
            [source[index].tobytes().decode() for index in indices],
            [target[index].tobytes().decode() for index in indices],
        )

    def __reduce__(self) -> tuple[type[Corpus], tuple[Path]]:
        # Another process maps the same files instead of getting a copy.
        return Corpus, (self._folder,)


def encode(
    reader: Reader,
    split: str,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    *,
    cache_dir: Path,
    max_length: int,
) -> Corpus:
    """The corpus of a split, encoded now or taken from the cache. The data is streamed.

    Args:
        reader: the data.
        split: ``train``, ``validation`` or ``test``.
        source_vocabulary: encodes the source side.
        target_vocabulary: encodes the target side.
        cache_dir: folder of the cache.
        max_length: tokens of a side, end of sentence included, that a pair of the training split
            may have; the other splits keep every pair.

    Raises:
        DataError: the data cannot be read, nothing is left of it, or the cache cannot be written.
    """
    limit = max_length if split == "train" else None
    vocabularies = (source_vocabulary, target_vocabulary)
    key = content_hash(_FORMAT, reader.fingerprint(split), *(item.to_json() for item in vocabularies), str(limit))

    def make(folder: Path) -> None:
        too_long = _write(folder, reader.read(split), vocabularies, limit)
        counts = {"skipped": reader.skipped()[split], "too_long": too_long}
        (folder / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")

    corpus = Corpus(cached_folder(cache_dir / "corpora", key, make))
    if not len(corpus):
        raise DataError(
            f"{reader.name}: all {corpus.too_long} pairs of {split} are longer than "
            f"batch.max_length={max_length} tokens; raise it"
        )
    return corpus


def _write(
    folder: Path,
    rows: Iterator[dict[str, str]],
    vocabularies: tuple[Vocabulary, Vocabulary],
    limit: int | None,
) -> int:
    """Encode the rows into files; returns how many were too long."""
    too_long = 0
    with (
        RaggedWriter(folder / "source_ids", np.int32) as source_ids,
        RaggedWriter(folder / "target_ids", np.int32) as target_ids,
        RaggedWriter(folder / "source_text", np.uint8) as source_text,
        RaggedWriter(folder / "target_text", np.uint8) as target_text,
    ):
        while chunk := list(islice(rows, _CHUNK)):
            texts = [row["source"] for row in chunk], [row["target"] for row in chunk]
            ids = [vocabulary.encode(side) for vocabulary, side in zip(vocabularies, texts, strict=True)]
            kept = [row for row in range(len(chunk)) if limit is None or _longest(ids, row) <= limit]
            too_long += len(chunk) - len(kept)
            for writer, side in zip((source_ids, target_ids), ids, strict=True):
                writer.extend([np.array(side[row], np.int32) for row in kept])
            for writer, lines in zip((source_text, target_text), texts, strict=True):
                writer.extend([np.frombuffer(lines[row].encode(), np.uint8) for row in kept])
    return too_long


def _longest(ids: list[list[list[int]]], row: int) -> int:
    """Tokens of the longer side of a row, end of sentence included."""
    return max(len(side[row]) for side in ids) + 1
