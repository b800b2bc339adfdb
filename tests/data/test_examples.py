"""What every reader does with the rows that it is given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.data.pictures import Picture
from attnbuild.data.readers.base import Reader, content_of


class Listed(Reader):
    """Rows from a list."""

    def __init__(self, rows):
        super().__init__("listed")
        self._rows = rows

    def splits(self):
        return ("train",)

    def rows(self, split):
        return iter(self._rows)


PICTURE = Picture(b"", "nothing in it, which loading tells")


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ((" a ", "b\n"), ("a", "b")),
        (((" a ", "b "), "c"), (("a", "b"), "c")),
        ((PICTURE, [" a", "", "b "]), (PICTURE, ["a", "b"])),
        ((PICTURE, "cat"), (PICTURE, "cat")),
        ((("a", " "), "c"), None),
        (("a", []), None),
        (("a", [" "]), None),
        ((None, "a"), None),
        (("a", None), None),
        ((" ", "a"), None),
    ],
)
def test_sides_are_trimmed_and_empty_ones_counted(row, example):
    reader = Listed([row, ("kept", "kept")])
    kept = [(row["source"], row["target"]) for row in reader.read("train")]
    assert kept == [*([example] if example else []), ("kept", "kept")]
    assert reader.skipped() == {"train": 0 if example else 1}


values = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.tuples(st.text(max_size=3), st.text(max_size=3)),
    st.lists(st.text(max_size=3), max_size=3),
)


@given(values, values)
def test_contents_differ_as_values_do(first, second):
    assert (content_of(first) == content_of(second)) == (first == second)


def test_pictures_are_told_apart_by_content_not_by_name():
    pixels = np.zeros((2, 3), np.uint8)
    contents = [content_of(Picture(data, "one")) for data in (b"a", b"b", pixels, pixels.T.copy(), pixels + 1)]
    assert all(a != b for a, b in itertools.combinations(contents, 2))
    assert content_of(Picture(pixels, "two")) == contents[2]
    assert Listed([(Picture(b"a", "one"), "x")]).fingerprint("train") == Listed(
        [(Picture(b"a", "two"), "x")]
    ).fingerprint("train")
    assert Listed([(Picture(b"a", "one"), "x")]).fingerprint("train") != Listed([("a", "x")]).fingerprint("train")
