"""Freed memory stays with the process, for the next update to use."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

#: Options of glibc's mallopt(3), and what they are set to: never to give memory back, to ask for 64 MiB more than is
#: needed, and to take none that would go back as soon as it is freed.
_OPTIONS = {"M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 64 << 20), "M_MMAP_MAX": (-4, 0)}


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; whether it does: glibc can be told, unless its user has done so.

    Left alone, it gives large tensors back to the system as soon as they are freed, and each 4 KiB of the next ones
    is a page fault and cleared: up to a fifth of the time of training a small Transformer on a CPU.
    What is kept does not fit every later request, so the process may grow slowly (docs/decisions.md).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return False
    return all(mallopt(option, value) for option, value in _OPTIONS.values())
