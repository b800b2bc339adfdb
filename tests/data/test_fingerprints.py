"""Pictures are not read again to see whether they changed, and every change is seen."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from attnbuild.data.fingerprints import fingerprint
from attnbuild.data.pictures import Picture


@pytest.fixture
def pets(tmp_path):
    """Pictures that were made an hour ago."""
    hour_ago = time.time() - 3600
    for number, name in enumerate(("cat/1.bmp", "cat/2.bmp", "dog/1.bmp", "dog/2.bmp")):
        path = tmp_path / "pets" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(path)
        os.utime(path, (hour_ago, hour_ago))
    return tmp_path / "pets"


@pytest.fixture
def reads(monkeypatch):
    """The pictures whose content was read."""
    seen: list[str] = []
    content = Picture.content
    monkeypatch.setattr(Picture, "content", lambda self: seen.append(Path(self.data).name) or content(self))
    return seen


@pytest.fixture
def fingerprint_of(make_reader, pets, tmp_path):
    def find(**options):
        options = {"train": "train", "validation": None, "test": None} | options
        return fingerprint(make_reader(type="image_folder", path=str(pets), **options), "train", tmp_path / "cache")

    return find


def test_what_was_not_touched_is_not_read_again(fingerprint_of, reads):
    first = fingerprint_of()
    assert len(reads) == 4
    assert fingerprint_of() == first
    assert len(reads) == 4
    held_out = fingerprint_of(validation=1)
    assert held_out != first
    again = len(reads)
    assert fingerprint_of(validation=1) == held_out
    assert len(reads) == again


def test_a_change_of_the_same_size_is_seen(fingerprint_of, pets):
    first = fingerprint_of()
    path = pets / "train" / "dog" / "2.bmp"
    size, since = path.stat().st_size, path.stat().st_mtime
    Image.new("L", (4, 4), 200).save(path)
    assert path.stat().st_size == size
    second = fingerprint_of()
    assert second != first, "just written: the time of change is not trusted"
    os.utime(path, (since + 60, since + 60))
    assert fingerprint_of() == second
    path.rename(pets / "train" / "cat" / "3.bmp")
    assert fingerprint_of() not in (first, second)


def test_touching_changes_nothing_but_the_effort(fingerprint_of, pets, reads):
    first = fingerprint_of()
    os.utime(pets / "train" / "dog" / "2.bmp", (1e9, 1e9))
    assert fingerprint_of() == first
    assert len(reads) == 8
