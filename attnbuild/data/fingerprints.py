"""Fingerprints of data, told without reading it again where nothing was touched."""

from __future__ import annotations

from pathlib import Path

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.readers.base import Reader

__all__ = ["fingerprint"]

_NAME = "fingerprint"


def fingerprint(reader: Reader, split: str, cache_dir: Path) -> str:
    """The fingerprint of a split, remembered in the cache as long as its stamp is the same.

    Raises:
        DataError: the data cannot be read, or the cache not written.
    """
    stamp = reader.stamp(split)
    if stamp is None:
        return reader.fingerprint(split)

    def make(folder: Path) -> None:
        (folder / _NAME).write_text(reader.fingerprint(split), encoding="utf-8")

    folder = cached_folder(cache_dir / "fingerprints", content_hash(reader.name, split, stamp), make)
    return (folder / _NAME).read_text(encoding="utf-8")
