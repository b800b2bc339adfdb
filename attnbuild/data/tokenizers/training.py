"""The vocabularies of a data set, trained once and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.fingerprints import fingerprint
from attnbuild.data.tokenizers.base import Trainable
from attnbuild.data.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
    from attnbuild.data.readers.base import Reader

__all__ = ["train_vocabularies"]


def train_vocabularies(
    tokenizer: Trainable, reader: Reader, cache_dir: Path, sides: tuple[str, ...] = ("source", "target")
) -> list[Vocabulary]:
    """The vocabularies of the sides that are text, trained on the training split or taken from the cache.

    Args:
        tokenizer: the kind, with its options.
        reader: the data; its training split is read.
        cache_dir: folder of the cache.
        sides: which of "source" and "target" are text.

    Returns:
        One for each of the sides; the same object for all where the tokenizer is joint.

    Raises:
        DataError: the data cannot be read, or the cache not written.
    """
    key = content_hash(tokenizers.__version__, tokenizer.fingerprint(), fingerprint(reader, "train", cache_dir), *sides)
    groups = [sides] if tokenizer.joint else [(side,) for side in sides]

    def make(folder: Path) -> None:
        for group in groups:
            vocabulary = tokenizer.train(_lines(reader, group))
            (folder / _file(group)).write_text(vocabulary.to_json(), encoding="utf-8")

    folder = cached_folder(cache_dir / "vocabularies", key, make)
    return [vocabulary for group in groups for vocabulary in [_load(folder / _file(group))] * len(group)]


def _file(sides: tuple[str, ...]) -> str:
    return f"{'-'.join(sides)}.json"


def _lines(reader: Reader, sides: tuple[str, ...]) -> Iterator[str]:
    """Each text of the sides; of a pair or of several captions, one after the other."""
    for row in reader.read("train"):
        for side in sides:
            value = row[side]
            yield from [value] if isinstance(value, str) else value


def _load(path: Path) -> Vocabulary:
    return Vocabulary.from_json(path.read_text(encoding="utf-8"))
