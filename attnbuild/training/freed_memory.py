"""Freed memory stays with the process, for the next update to use."""

from __future__ import annotations

import ctypes
import os

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

#: Options of glibc's mallopt(3), and what they are set to: never to give memory back, to ask for 64 MiB more than is
#: needed, and to take none that would go back as soon as it is freed.
_OPTIONS = {"M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 64 << 20), "M_MMAP_MAX": (-4, 0)}


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; whether it does: glibc can be told, unless its user has done so.

    Left alone, it gives large tensors back to the system as soon as they are freed, and each 4 KiB of the next ones
    is a page fault and cleared: up to a fifth of the time of training a small Transformer on a CPU.
    """
    library = _library()
    return library is not None and all(library.mallopt(option, value) for option, value in _OPTIONS.values())


def give_back_freed_memory() -> None:
    """Give back what is free now: some of what is kept fits no later request, and would pile up over hours."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def _library() -> ctypes.CDLL | None:
    """glibc, where its user has not told it how to do."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return None
