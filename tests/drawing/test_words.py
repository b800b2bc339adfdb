"""Words on grounds as dark as their weights: wrapped, joined where they are parts of a word, for any script."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from attnbuild.drawing import words as drawing
from attnbuild.drawing.words import draw_words


def weights(tokens, heads=None):
    even = np.ones(tokens)
    return np.random.default_rng(1).dirichlet(even, size=heads)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["▁the", "▁trans", "lation", "▁."], [["the"], ["trans", "lation"], ["."]]),
        (["the", "translation", "."], [["the"], ["translation"], ["."]]),
        (["a", "b", "▁", "c"], [["a", "b"], ["▁"], ["c"]]),
        (["a", "▁", "▁", "b"], [["a"], ["▁"], ["▁"], ["b"]]),
        (["▁New▁York", "▁is"], [["New York"], ["is"]]),
        (["a▁", "b"], [["a"], ["b"]]),
        (["▁caf", "<0xC3>", "<0xA9>", "</s>"], [["caf", "<0xC3>", "<0xA9>", "</s>"]]),
        (["", "x"], [[""], ["x"]]),
        (["\x00", "\ud800"], [["·"], ["·"]]),
    ],
    ids=ascii,
)
def test_marks_of_spaces_make_words(tokens, words):
    assert list(drawing._words(tokens)) == words


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["▁the", "▁translation", "ing", "▁", "</s>", "x" * 70, "▁a"]), min_size=1, max_size=60))
def test_every_token_has_its_place_and_none_covers_another(tokens):
    boxes = drawing._laid_out(tokens)
    assert len(boxes) == len(tokens)
    assert [box.line for box in boxes] == sorted(box.line for box in boxes)
    for box, following in pairwise(boxes):
        if box.line == following.line:
            assert following.left >= box.left + box.width - 1e-6
        else:
            assert following.line == box.line + 1
            assert following.left == 0
    assert max(box.left + box.width for box in boxes) <= drawing._WIDTH


def test_parts_of_a_word_touch_and_words_do_not():
    first, second, third = drawing._laid_out(["▁trans", "lation", "▁film"])
    assert second.left == pytest.approx(first.left + first.width)
    assert third.left > second.left + second.width + 3


def test_a_script_from_right_to_left_is_laid_out_so():
    first, second, third = drawing._laid_out(["▁مرحبا", "▁بالعالم", "ك"])
    assert first.left > second.left + second.width
    assert second.left == pytest.approx(third.left + third.width)
    assert third.left == 0


def test_the_picture_shows_the_weights(tmp_path):
    """Of four equal words the third has all the weight: its quarter of the text is the dark one."""
    draw_words(["mmmm"] * 4, np.array([0.0, 0.0, 1.0, 0.0]), tmp_path / "0.png")
    drawn = imread(tmp_path / "0.png")[:, :, :3]
    boxes = drawing._laid_out(["mmmm"] * 4)
    dark = (drawn[:, :, 2] - drawn[:, :, 0]) > 0.3
    for number, box in enumerate(boxes):
        left, right = (round((drawing._MARGIN + x) * 120 / 72) for x in (box.left, box.left + box.width))
        top, bottom = (round((drawing._MARGIN + y) * 120 / 72) for y in (3.0, drawing._LINE - 3.0))
        assert (dark[top:bottom, left:right].mean() > 0.5) == (number == 2)


def test_heads_follow_their_mean(tmp_path):
    tokens = ["a", "red", "dress"]
    one, several = (
        draw_words(tokens, weights(3), tmp_path / "1.png"),
        draw_words(tokens, weights(3, 8), tmp_path / "8.png"),
    )
    heights = [imread(path).shape[0] for path in (one, several)]
    assert heights[1] > 3 * heights[0]


@pytest.mark.parametrize(("tokens", "heads"), [(1, None), (40, 2), (400, 1), (250, 8)])
def test_pictures_are_of_bounded_size(tmp_path, tokens, heads):
    path = tmp_path / "folder" / "0.png"
    names = [f"▁token{i}" if i % 3 else "part" for i in range(tokens)]
    assert draw_words(names, weights(tokens, heads), path, "title " * 60) == path
    assert max(imread(path).shape) < 4600


@pytest.mark.parametrize(
    "token",
    ["日本語", "مرحبا بالعالم", "नमस्ते", "🙂", "$x^", r"\frac{", "", " ", "▁", "▁the", "\x00\n\t", "\ud800", "w" * 500],
    ids=ascii,
)
def test_any_token_is_drawn_without_a_warning(tmp_path, token):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_words([token, "a", token], weights(3), tmp_path / "0.png", title=token)


def test_weights_that_are_all_zero_or_nan_are_drawn(tmp_path):
    for value in (0.0, np.nan):
        draw_words(["a", "b"], np.full((2, 2), value), tmp_path / "0.png")


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights \(3,\) do not fit 2 tokens"):
        draw_words(["a", "b"], np.ones(3), tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"weights \(1, 1, 2\) do not fit 2 tokens"):
        draw_words(["a", "b"], np.ones((1, 1, 2)), tmp_path / "0.png")
    with pytest.raises(ValueError, match="do not fit 0 tokens"):
        draw_words([], np.ones(0), tmp_path / "0.png")
