"""Telling that files were not touched, without reading them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import xxhash

from attnbuild.data.pictures import Picture
from attnbuild.data.readers.base import Row, content_of

__all__ = ["stamp_of"]

#: Seconds within which a file can change twice without its time telling.
_RECENT = 2.0


def stamp_of(rows: Iterable[Row]) -> str | None:
    """The stamp of rows whose sources are picture files: names, sizes and times of change, and the targets.

    None where a source is no file, cannot be found, or changed so lately that it might again, unseen.
    """
    state, now = xxhash.xxh3_128(), time.time_ns()
    for source, target in rows:
        if not isinstance(source, Picture) or not isinstance(source.data, Path):
            return None
        try:
            about = os.stat(source.data)
        except OSError:
            return None
        if abs(now - about.st_mtime_ns) < _RECENT * 1e9:
            return None
        state.update(os.fsencode(source.data) + f":{about.st_size}:{about.st_mtime_ns}:{about.st_ino}".encode())
        state.update(content_of(target))
    return state.hexdigest()
