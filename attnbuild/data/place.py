"""What the builder knows when it builds a reader or a tokenizer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataPlace", "TokenizerPlace", "default_cache_dir"]


@dataclass(frozen=True)
class DataPlace:
    """Place of a reader.

    Attributes:
        cache_dir: folder for what can be made again from the data.
        seed: seed of the run, for a reader that draws anew in every run; data that must stay the
            same from run to run has a seed option of its own.
    """

    cache_dir: Path
    seed: int


@dataclass(frozen=True)
class TokenizerPlace:
    """Place of a tokenizer.

    Attributes:
        cache_dir: folder for what can be made again from the data.
    """

    cache_dir: Path


def default_cache_dir() -> Path:
    """``$ATTNBUILD_CACHE``, else the user's cache folder of the operating system."""
    chosen = os.environ.get("ATTNBUILD_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("attnbuild", appauthor=False))
