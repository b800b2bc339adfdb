"""The vocabularies of a data set, trained once and kept in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.tokenizers.base import Trainable
from attnbuild.data.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
    from attnbuild.data.readers.base import Reader

__all__ = ["train_vocabularies"]


def train_vocabularies(tokenizer: Trainable, reader: Reader, cache_dir: Path) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of source and target, trained on the training split or taken from the cache.

    Args:
        tokenizer: the kind, with its options.
        reader: the data; its training split is read.
        cache_dir: folder of the cache.

    Returns:
        Two vocabularies; the same object twice where the tokenizer is joint.

    Raises:
        DataError: the data cannot be read, or the cache not written.
    """
    key = content_hash(tokenizers.__version__, tokenizer.fingerprint(), reader.fingerprint("train"))

    def make(folder: Path) -> None:
        for name, sides in _sides(tokenizer).items():
            vocabulary = tokenizer.train(_lines(reader, sides))
            (folder / f"{name}.json").write_text(vocabulary.to_json(), encoding="utf-8")

    folder = cached_folder(cache_dir / "vocabularies", key, make)
    vocabularies = [_load(folder / f"{name}.json") for name in _sides(tokenizer)]
    return vocabularies[0], vocabularies[-1]


def _sides(tokenizer: Trainable) -> dict[str, tuple[str, ...]]:
    """The sides that each vocabulary is trained on, by file name."""
    if tokenizer.joint:
        return {"joint": ("source", "target")}
    return {"source": ("source",), "target": ("target",)}


def _lines(reader: Reader, sides: tuple[str, ...]) -> Iterator[str]:
    return (row[side] for row in reader.read("train") for side in sides)


def _load(path: Path) -> Vocabulary:
    return Vocabulary.from_json(path.read_text(encoding="utf-8"))
