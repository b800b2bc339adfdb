"""Folders that are made once and named by the hash of all that determines their content."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import xxhash

from attnbuild.errors import DataError

__all__ = ["cached_folder", "content_hash"]


def content_hash(*parts: str) -> str:
    """128-bit hash of a sequence of texts; where one text ends and the next begins counts."""
    state = xxhash.xxh3_128()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def cached_folder(parent: Path, key: str, make: Callable[[Path], None]) -> Path:
    """The folder ``parent/key``, made by ``make`` if it is not there yet.

    ``make`` fills a temporary folder beside it, which takes its name only when complete: a killed
    process leaves nothing that could be mistaken for the whole, and of two processes at once the
    first to finish wins.

    Args:
        parent: folder of all entries of one sort.
        key: hash of everything that determines the content.
        make: writes the files into the folder that it is given.

    Raises:
        DataError: the cache cannot be written.
    """
    folder = parent / key
    if folder.is_dir():
        return folder
    draft = parent / f".{key}.{uuid.uuid4().hex}"
    try:
        draft.mkdir(parents=True)
        make(draft)
        _publish(draft, folder)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {parent}: {error.strerror or error}; "
            "set ATTNBUILD_CACHE to a folder that can be written and has room"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _publish(draft: Path, folder: Path) -> None:
    try:
        os.replace(draft, folder)
    except OSError:
        # A folder cannot replace one that holds files: another process has published the same.
        if not folder.is_dir():
            raise
