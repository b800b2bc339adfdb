"""The embedded scenes keep their promises; above all, every caption is true of its pixels."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.data.handwritten import handwritten_digits
from attnbuild.data.place import DataPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import build
from attnbuild.tasks.captioning.digit_captions import Placed, captions
from attnbuild.tasks.captioning.digit_scenes import DigitScenesReader

SPLITS = ("train", "validation", "test")
SMALL = {"train": 200, "validation": 40, "test": 40}
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def make(tmp_path, **options) -> DigitScenesReader:
    return build("data", DataPlace(tmp_path, seed=1), {"type": "digit_scenes", **options}, "data")


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    return make(tmp_path_factory.mktemp("scenes"))


def claims(caption: str, subject: str | None = None) -> list[tuple[str, str, str | None]]:
    """What a caption says, by a grammar of its own: (digit, relation, other digit) or (digit, place, None)."""
    number = rf"(?:an?) ({'|'.join(NAMES)})"
    found = []
    # A place belongs to the digit before it, or to the first one after it where the caption begins with it.
    place = r"(?:in the|at the|on the) (?:top|bottom|left|right|middle)(?: (?:left|right) corner)?"
    for digit, where in re.findall(rf"{number} (?:, )?({place})", caption):
        found.append((digit, where, None))
    if first := re.match(rf"({place}) there is {number}$", caption):
        found.append((first[2], first[1], None))
    relation = r"((?:above|below)(?: and to the (?:left|right) of)?|to the (?:left|right) of)"
    for one, how, other in re.findall(rf"(?={number} (?:, which is )?{relation} {number})", caption):
        found.append((one, how, other))
    if with_it := re.match(rf"there is {number} with (.*)", caption):
        found += [(one, how, with_it[1]) for one, how in re.findall(rf"{number} {relation} it", with_it[2])]
    if both := re.match(rf"there is {number} {relation} {number} and {relation} {number}", caption):
        found.append((both[1], both[4], both[5]))
    return found


def holds(relation: str, one: tuple[int, int], other: tuple[int, int], side: int) -> bool:
    """Whether a relation is all there is to say of two boxes, given their top left pixels."""
    vertical = "above" if one[0] + side <= other[0] else "below" if other[0] + side <= one[0] else None
    horizontal = (
        "to the left of" if one[1] + side <= other[1] else "to the right of" if other[1] + side <= one[1] else None
    )
    return relation == " and ".join(filter(None, (vertical, horizontal)))


def lies(place: str, corner: tuple[int, int], side: int, size: int) -> bool:
    """Whether the middle of a box is in the third of the canvas that a place names."""
    rows, columns = (["top", "middle", "bottom"], ["left", "middle", "right"])
    third = [min(2, int((edge + side / 2) // (size // 3))) for edge in corner]
    words = {rows[third[0]], columns[third[1]]} - ({"middle"} if third != [1, 1] else set())
    return set(place.split()) & {"top", "bottom", "left", "right", "middle"} == words


@pytest.mark.parametrize(("size", "side"), [(24, 8), (32, 8), (57, 8), (60, 16)])
def test_every_caption_is_true_of_the_pixels(tmp_path, size, side):
    reader = make(tmp_path, **SMALL, size=size)
    for split in SPLITS:
        written = {(small.tobytes(), NAMES[digit]) for small, digit in zip(*handwritten_digits(split), strict=True)}
        for scene, row in zip(reader.scenes(split), reader.read(split), strict=True):
            boxes, rest = {}, scene.pixels.copy()
            for placed, (top, left) in zip(scene.digits, scene.corners, strict=True):
                ink = scene.pixels[top : top + side, left : left + side]
                assert (ink[:: side // 8, :: side // 8].tobytes(), NAMES[placed.digit]) in written
                rest[top : top + side, left : left + side] = 0
                boxes[NAMES[placed.digit]] = (top, left)
            assert not rest.any()
            assert np.array_equal(row["source"].load(size, 1, "crop")[0], scene.pixels)
            assert len(row["target"]) == len(set(row["target"])) == 5
            for caption in row["target"]:
                said = claims(caption)
                assert {digit for claim in said for digit in (claim[0], claim[2]) if digit} == set(boxes), caption
                for one, how, other in said:
                    true = (
                        lies(how, boxes[one], side, size)
                        if other is None
                        else holds(how, boxes[one], boxes[other], side)
                    )
                    assert true, f"{caption}: {one} {how} {other}, {boxes}"


def test_the_grammar_of_this_test_sees_every_claim():
    a, b, c = Placed(7, 0, 0), Placed(8, 0, 2), Placed(0, 2, 1)
    counts = [[len(claims(caption)) for caption in captions(digits)] for digits in ([a], [a, b], [a, b, c])]
    assert counts == [[1] * 5, [1, 1, 2, 2, 1], [2, 2, 3, 3, 2]]
    assert claims("a seven below and to the left of an eight") == [("seven", "below and to the left of", "eight")]
    assert not holds("above", (0, 0), (9, 9), 8)
    assert not lies("at the top", (0, 0), 8, 24)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 8)),
        min_size=1,
        max_size=3,
        unique_by=(lambda x: x[0], lambda x: x[1]),
    )
)
def test_captions_differ_and_name_every_digit(chosen):
    placed = [Placed(digit, *divmod(cell, 3)) for digit, cell in sorted(chosen, key=lambda x: x[1])]
    said = captions(placed)
    assert len(set(said)) == 5
    for caption in said:
        words = caption.removeprefix("two digits").removeprefix("three digits").split()
        named = [(article, word) for article, word in itertools.pairwise(words) if word in NAMES]
        assert sorted(word for _, word in named) == sorted(NAMES[digit] for digit, _ in chosen)
        assert all(article == ("an" if word == "eight" else "a") for article, word in named)


def test_no_handwritten_digit_is_in_two_splits():
    pictures = [{small.tobytes() for small in handwritten_digits(split)[0]} for split in SPLITS]
    assert [len(handwritten_digits(split)[1]) for split in SPLITS] == [1257, 180, 360]
    for one, other in itertools.combinations(pictures, 2):
        assert not one & other


def test_default_data(default):
    rows = {split: list(default.read(split)) for split in default.splits()}
    assert {split: len(found) for split, found in rows.items()} == {"train": 4000, "validation": 300, "test": 300}
    assert (default.source_modality({}), default.targets) == ("image", ("captions",))
    known = {word for row in rows["train"] for caption in row["target"] for word in caption.split()}
    assert {word for row in rows["test"] for caption in row["target"] for word in caption.split()} <= known
    counts = [len(scene.digits) for scene in default.scenes("train")]
    assert all(1200 < counts.count(number) < 1470 for number in (1, 2, 3))


def test_the_same_options_give_the_same_data(tmp_path):
    first, again, other = (make(tmp_path, **SMALL, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint("test") == again.fingerprint("test")
    assert len({first.fingerprint("test"), other.fingerprint("test"), first.fingerprint("train")}) == 3
    assert [row["target"] for row in first.read("test")] == [row["target"] for row in again.read("test")]


def test_fewer_digits_and_references(tmp_path):
    reader = make(tmp_path, **SMALL, digits=1, references=3)
    assert {len(scene.digits) for scene in reader.scenes("train")} == {1}
    assert {len(row["target"]) for row in reader.read("train")} == {3}


@pytest.mark.parametrize(("option", "value"), [("size", 20), ("digits", 4), ("references", 6), ("test", 0)])
def test_wrong_options_are_refused(tmp_path, option, value):
    with pytest.raises(ConfigError, match=rf"data\.{option}"):
        make(tmp_path, **{option: value})
