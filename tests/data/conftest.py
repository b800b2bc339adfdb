"""What the tests of data share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Reader
from attnbuild.registry import build

SENTENCES = [
    ("Two men walk.", "Zwei Männer gehen."),
    ("A dog (brown) runs, then sleeps.", "Ein Hund (braun) läuft, dann schläft er."),
    ("The street is long.", "Die Straße ist lang."),
    ("3 cats; 12.5 birds!", "3 Katzen; 12,5 Vögel!"),
]


@pytest.fixture
def make_reader(tmp_path: Path) -> Callable[..., Reader]:
    """Builds a reader by its options, as the config does."""

    def make(**options: object) -> Reader:
        reader: Reader = build("data", DataPlace(tmp_path / "cache", seed=1), options, "data")
        return reader

    return make


@pytest.fixture
def parallel(tmp_path: Path, make_reader: Callable[..., Reader]) -> Callable[..., Reader]:
    """Writes parallel training files as given, byte by byte, and builds their reader."""

    def write(source: bytes | None = None, target: bytes | None = None, **options: object) -> Reader:
        default = ["\n".join(side) + "\n" for side in zip(*SENTENCES, strict=True)]
        for language, given, text in zip(("en", "de"), (source, target), default, strict=True):
            (tmp_path / f"train.{language}").write_bytes(text.encode() if given is None else given)
        options = {"root": str(tmp_path), "validation": None, "test": None, **options}
        return make_reader(type="text", **options)

    return write
