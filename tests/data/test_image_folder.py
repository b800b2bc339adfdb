"""Folders of labelled pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attnbuild.errors import DataError


def put(folder: Path, *names: str) -> None:
    """A small picture for each name, all different."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 10 * number).save(folder / name, "PNG")


@pytest.fixture
def pets(tmp_path):
    put(tmp_path / "pets" / "train", "cat/1.png", "cat/deep/2.PNG", "dog/a.jpg", "dog/b.jpeg", "dog/.hidden.png")
    put(tmp_path / "pets" / "test", "cat/3.png", "dog/3.png")
    (tmp_path / "pets" / "train" / "dog" / "notes.txt").write_text("about dogs", encoding="utf-8")
    (tmp_path / "pets" / "train" / ".cache").mkdir()
    return tmp_path


def found(reader, split):
    return [(Path(row["source"].name).name, row["target"]) for row in reader.read(split)]


def test_labels_are_folders(make_reader, pets):
    reader = make_reader(type="image_folder", path="pets", root=str(pets), validation=None)
    assert (reader.source_modality({}), reader.targets) == ("image", ("labels",))
    assert reader.splits() == ("train", "test")
    assert found(reader, "train") == [("1.png", "cat"), ("2.PNG", "cat"), ("a.jpg", "dog"), ("b.jpeg", "dog")]
    assert found(reader, "test") == [("3.png", "cat"), ("3.png", "dog")]
    assert next(reader.read("test"))["source"].load(4, 1, "crop").shape == (1, 4, 4)


def test_one_folder_is_split(make_reader, tmp_path):
    put(tmp_path / "all", *(f"{label}/{n}.png" for label in ("a", "b") for n in range(10)))
    reader = make_reader(type="image_folder", path=str(tmp_path / "all"), train=".", validation=0.2, test=3)
    files = {split: [row["source"].data for row in reader.read(split)] for split in reader.splits()}
    assert {split: len(paths) for split, paths in files.items()} == {"train": 13, "validation": 4, "test": 3}
    assert len({path for paths in files.values() for path in paths}) == 20


def test_fingerprint_follows_pixels_names_and_labels(make_reader, pets):
    reader = make_reader(type="image_folder", path="pets", root=str(pets))
    first = reader.fingerprint("train")
    (pets / "pets").rename(pets / "moved")
    assert make_reader(type="image_folder", path="moved", root=str(pets)).fingerprint("train") == first
    (pets / "moved").rename(pets / "pets")
    (pets / "pets" / "train" / "dog" / "a.jpg").rename(pets / "pets" / "train" / "dog" / "aa.jpg")
    renamed = reader.fingerprint("train")
    assert renamed != first, "samples and predictions would show the old name"
    Image.new("L", (4, 4), 99).save(pets / "pets" / "train" / "dog" / "aa.jpg", "PNG")
    second = reader.fingerprint("train")
    assert second not in (first, renamed)
    (pets / "pets" / "train" / "dog").rename(pets / "pets" / "train" / "wolf")
    assert reader.fingerprint("train") not in (first, second)


def test_what_is_missing_or_misplaced_is_named(make_reader, pets):
    with pytest.raises(DataError, match=r"no folder 'cats' \(from data\.path\): tried .*/cats \(from data\.root\)"):
        found(make_reader(type="image_folder", path="cats", root=str(pets)), "train")
    with pytest.raises(DataError, match=r"pets: has no folder 'tests' \(from data\.test\); did you mean 'test'"):
        found(make_reader(type="image_folder", path="pets", root=str(pets), test="tests"), "test")
    put(pets / "pets" / "train", "loose.png")
    with pytest.raises(DataError, match=r"train/loose\.png: lies in no folder of a label"):
        found(make_reader(type="image_folder", path="pets", root=str(pets)), "train")


def test_an_empty_folder_is_named(make_reader, tmp_path):
    (tmp_path / "pets" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no example in train: it is empty \(.*pets/train\)"):
        found(make_reader(type="image_folder", path="pets", root=str(tmp_path)), "train")


def test_a_damaged_picture_is_named(make_reader, pets):
    (pets / "pets" / "test" / "cat" / "3.png").write_bytes(b"")
    row = next(make_reader(type="image_folder", path="pets", root=str(pets)).read("test"))
    with pytest.raises(DataError, match=r"pets/test/cat/3\.png: cannot be read as a picture: it is empty"):
        row["source"].load(4, 3, "crop")
