"""The sides of an example: from a reader's value to a stored array to the tensor of a batch."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.data.corpus import encode
from attnbuild.data.pictures import Picture
from attnbuild.data.place import TokenizerPlace
from attnbuild.data.readers.base import Reader
from attnbuild.data.sides.captions import CaptionsSide
from attnbuild.data.sides.images import ImageSide
from attnbuild.data.sides.labels import LabelsSide, _order
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD
from attnbuild.errors import DataError
from attnbuild.registry import build

WORDS = st.lists(st.sampled_from(["a", "seven", "above", "one"]), min_size=1, max_size=5).map(" ".join)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    tokenizer = build("tokenizer", TokenizerPlace(tmp_path_factory.mktemp("cache")), {"type": "word"}, "tokenizer")
    return tokenizer.train(["a seven above one"])


def test_a_pair_is_one_text_with_an_end_between(vocabulary):
    side = TextSide(vocabulary)
    (stored,) = side.encode([("a seven", "one")])
    first, second = vocabulary.encode(["a seven", "one"])
    assert stored.tolist() == [*first, EOS, *second]
    assert side.collate([stored], None).tolist() == [[*first, EOS, *second, EOS]]
    assert side.text(("a seven", "one")) == "a seven\tone"
    assert side.width(stored) == len(stored) + 1


@settings(max_examples=30)
@given(captions=st.lists(WORDS, min_size=1, max_size=4))
def test_captions_come_back_one_at_a_time(vocabulary, captions):
    side = CaptionsSide(vocabulary, begin=True)
    (stored,) = side.encode([captions])
    ids = vocabulary.encode(captions)
    assert side.width(stored) == max(map(len, ids)) + 1
    assert side.text(captions).splitlines() == captions
    assert side.collate([stored], None).tolist() == [[BOS, *ids[0], EOS]]
    drawn = {tuple(side.collate([stored], np.random.default_rng(seed))[0].tolist()) for seed in range(40)}
    assert drawn == {(BOS, *row, EOS) for row in ids}


def test_captions_are_drawn_evenly(vocabulary):
    side = CaptionsSide(vocabulary, begin=True)
    (stored,) = side.encode([["a", "seven", "above"]])
    drawn = Counter(int(side.collate([stored], np.random.default_rng(seed))[0, 1]) for seed in range(600))
    assert len(drawn) == 3
    assert min(drawn.values()) > 150
    assert side.collate([stored, side.encode([["one one"]])[0]], None)[0, -1] == PAD


def test_a_line_break_parts_no_caption(vocabulary):
    side = CaptionsSide(vocabulary)
    assert side.text(["a\nseven", " one "]) == "a seven\none"


@given(
    st.lists(st.sampled_from(["10", "9", "cat", "ant", "2"]), min_size=2, max_size=9).filter(lambda x: len({*x}) > 1)
)
def test_labels_are_numbered_by_name_and_come_back(names):
    side = LabelsSide.of(names, multi_label=False)
    assert side.names == sorted(
        {*names}, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name)
    )
    numbers = side.collate(side.encode(names), None)
    assert [side.names[number] for number in numbers.tolist()] == names
    again = LabelsSide.from_artifacts(side.artifacts())
    assert (again.names, again.fingerprint()) == (side.names, side.fingerprint())


def test_several_labels_are_marked():
    side = LabelsSide.of([["red", "round"], ["blue"]], multi_label=True)
    assert side.names == ["blue", "red", "round"]
    assert side.collate(side.encode([["red", "round"], "blue"]), None).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert side.text(["red", "round"]) == "red\nround"


def test_all_unseen_labels_are_named_with_a_near_one():
    side = LabelsSide.of(["cat", "dog"], multi_label=False)
    with pytest.raises(DataError, match=r"'catt' \(example 3\), 'fish' \(example 2\); did you mean 'cat'"):
        side.check(["dog", "fish", "catt", "fish"])
    with pytest.raises(DataError, match=r"task\.multi_label=true"):
        side.check([["cat", "dog"]])
    with pytest.raises(DataError, match="no more than one label: cat"):
        LabelsSide.of(["cat", "cat"], multi_label=False)


class Squares(Reader):
    """Squares of random pixels."""

    source = "image"
    targets = ("labels",)

    def __init__(self, count: int) -> None:
        super().__init__("squares")
        draw = np.random.default_rng(0)
        self.pictures = [Picture(draw.integers(0, 200, (6, 6, 3), np.uint8), f"square {n}") for n in range(count)]

    def splits(self):
        return ("train", "validation")

    def rows(self, split):
        for number, picture in enumerate(self.pictures):
            yield picture, "odd" if number % 2 else "even"


def test_images_are_stored_as_pixels_with_mean_and_deviation(tmp_path):
    reader, side = Squares(9), ImageSide(size=6, channels=3, fit="crop")
    corpus = encode(reader, "train", (side, LabelsSide(["even", "odd"])), cache_dir=tmp_path, max_length=5)
    assert corpus.widths.tolist() == [[1, 1]] * 9
    assert corpus.texts([3]) == (["square 3"], ["odd"])
    batch = side.collate(corpus.rows([0, 4])[0], None)
    pixels = np.stack([picture.data for picture in reader.pictures])
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch.numpy(), pixels[[0, 4]].transpose(0, 3, 1, 2))
    side.measure(corpus)
    np.testing.assert_allclose(side.mean, pixels.mean((0, 1, 2)) / 255, atol=1e-5)
    np.testing.assert_allclose(side.std, pixels.std((0, 1, 2)) / 255, atol=1e-5)
    again = ImageSide.from_artifacts(side.artifacts())
    assert (again.input(), again.fingerprint()) == (side.input(), side.fingerprint())


def test_an_unseen_label_is_told_with_data_and_split(tmp_path):
    sides = ImageSide(size=6, channels=1, fit="pad"), LabelsSide(["even", "other"])
    with pytest.raises(
        DataError, match=r"squares, validation: labels that the training data does not have: 'odd' \(example 2\)"
    ):
        encode(Squares(4), "validation", sides, cache_dir=tmp_path, max_length=5)


def test_labels_have_one_order_whatever_order_they_are_found_in():
    """Ranks find them in sets, whose order differs from process to process; "nan" compares with no number."""
    names = ["10", "9", "-1", "nan", "NaN", "inf", "a"]
    orders = {tuple(sorted(order, key=_order)) for order in permutations(names)}
    assert orders == {("-1", "9", "10", "inf", "NaN", "a", "nan")}


def test_all_images_that_cannot_be_read_are_named():
    side = ImageSide(size=2, channels=1, fit="crop")
    damaged = [Picture(b"no picture", f"row {row}") for row in range(1, 24)]
    good = Picture(np.zeros((3, 3), np.uint8), "row 24")
    with pytest.raises(DataError) as raised:
        side.encode([*damaged[:2], good])
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["row 1", "row 2"]
    with pytest.raises(DataError, match="row 20: .*\nand 3 more$"):
        side.encode(damaged)
