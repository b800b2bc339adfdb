"""The embedded digits are scikit-learn's, each in one split."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from attnbuild.data.place import DataPlace
from attnbuild.registry import build
from attnbuild.tasks.classification.digits import DigitsReader


@pytest.fixture
def reader(tmp_path) -> DigitsReader:
    return build("data", DataPlace(tmp_path, seed=1), {"type": "digits"}, "data")


def test_every_digit_is_in_one_split(reader):
    assert (reader.source_modality({}), reader.targets) == ("image", ("labels",))
    found = {split: list(reader.read(split)) for split in reader.splits()}
    assert {split: len(rows) for split, rows in found.items()} == {"train": 1257, "validation": 180, "test": 360}
    pixels = {(row["source"].load(8, 1, "crop")[0].tobytes(), row["target"]) for rows in found.values() for row in rows}
    stored = load_digits()
    # 16 dots of ink are white, 8 are half as bright.
    expected = np.array([round(dots * 255 / 16) for dots in range(17)], np.uint8)[stored.images.astype(int)]
    assert pixels == {(image.tobytes(), str(digit)) for image, digit in zip(expected, stored.target, strict=True)}
    assert len(pixels) == 1797


def test_every_split_has_every_digit(reader):
    for split in reader.splits():
        assert {row["target"] for row in reader.read(split)} == set("0123456789")


def test_pictures_grow_to_any_size(reader):
    row = next(reader.read("test"))
    assert row["source"].name == "digits, test row 1"
    assert row["source"].load(64, 3, "crop").shape == (3, 64, 64)


def test_fingerprints_differ_by_split_only(reader, tmp_path):
    again = build("data", DataPlace(tmp_path / "other", seed=2), {"type": "digits"}, "data")
    assert len({one.fingerprint(split) for one in (reader, again) for split in reader.splits()}) == 3
