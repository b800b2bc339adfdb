"""Heatmaps show where the weights are, for any words, pictures and grids."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from attnbuild.drawing.heatmaps import draw_heatmaps, draw_overlay, overlay


def picture(height=32, width=32, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def weights(words, height=4, width=4):
    return np.random.default_rng(1).dirichlet(np.ones(height * width), size=words).reshape(words, height, width)


def colourfulness(image):
    return image.max(axis=2).astype(int) - image.min(axis=2)


@pytest.mark.parametrize("place", [(0, 0), (1, 3), (3, 2)])
def test_the_bright_place_is_where_the_weight_is(place):
    one = np.zeros((4, 4), dtype=np.float32)
    one[place] = 0.3
    mixed = overlay(np.full((80, 80, 3), 100, dtype=np.uint8), one)
    colour = colourfulness(mixed).reshape(4, 20, 4, 20).mean(axis=(1, 3))
    assert np.unravel_index(colour.argmax(), colour.shape) == place
    far = colour[(place[0] + 2) % 4, (place[1] + 2) % 4]
    assert far < 0.05 * colour[place]


def test_the_photo_is_still_seen_under_the_map():
    striped = np.zeros((40, 40, 3), dtype=np.uint8)
    striped[::2] = 255
    lines = overlay(striped, np.ones((2, 2))).mean(axis=(1, 2))
    assert abs(lines[::2].mean() - lines[1::2].mean()) > 50


def test_an_even_map_is_even_and_its_height_does_not_matter():
    flat = picture() * 0 + 100
    low, high = overlay(flat, np.full((3, 5), 1e-6)), overlay(flat, np.full((3, 5), 1.0))
    assert np.array_equal(low, high)
    assert (low == low[0, 0]).all()


def test_nothing_seen_and_what_is_no_number_leave_the_photo_grey():
    for value in (0.0, np.nan, np.inf):
        mixed = overlay(picture(), np.full((3, 3), value))
        assert colourfulness(mixed).max() == 0
        assert mixed.std() > 10


@pytest.mark.parametrize("words", [0, 1, 2, 14, 40])
def test_any_number_of_words(tmp_path, words):
    path = tmp_path / "maps" / "0.png"
    assert draw_heatmaps(picture(), weights(words), [f"w{i}" for i in range(words)], path, "a title") == path
    assert max(imread(path).shape) < 3500


@pytest.mark.parametrize("size", [(8, 8, 1), (300, 60, 3), (60, 300, 1), (1, 1, 3)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (14, 14)])
def test_any_picture_and_grid(tmp_path, size, grid):
    draw_heatmaps(picture(*size), weights(3, *grid), ["a", "b", "c"], tmp_path / "0.png")
    draw_overlay(picture(*size), weights(1, *grid)[0], tmp_path / "1.png", "label 0.97")
    assert max(imread(tmp_path / "0.png").shape) < 3500
    assert imread(tmp_path / "1.png").size


@pytest.mark.parametrize(
    "word", ["日本語", "مرحبا", "नमस्ते", "🙂", "$x^", r"\frac{", "", "▁the", "\x00\n", "\ud800", "w" * 500], ids=ascii
)
def test_any_word_is_drawn_without_a_warning(tmp_path, word):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_heatmaps(picture(), weights(2), [word, "a"], tmp_path / "0.png", title=word)


def test_the_first_panel_is_the_photo(tmp_path):
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[:, :, 0] = 250
    draw_heatmaps(red, weights(1) * 0, ["word"], tmp_path / "0.png")
    drawn = imread(tmp_path / "0.png")[:, :, :3]
    is_red = (drawn[:, :, 0] > 0.9) & (drawn[:, :, 1] < 0.1)
    left, right = np.split(is_red[:, : is_red.shape[1] // 2 * 2], 2, axis=1)
    assert left.mean() > 0.4
    assert right.mean() == 0


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "0.png"
    with pytest.raises(ValueError, match=r"weights \(2, 4, 4\) do not fit 3 words"):
        draw_heatmaps(picture(), weights(2), ["a", "b", "c"], path)
    with pytest.raises(ValueError, match=r"float64 \(32, 32, 3\) is no picture"):
        draw_heatmaps(picture() / 255, weights(1), ["a"], path)
    with pytest.raises(ValueError, match=r"uint8 \(3, 32, 32\) is no picture"):
        draw_overlay(picture().transpose(2, 0, 1), weights(1)[0], path)
    with pytest.raises(ValueError, match=r"weights \(1, 4, 4\) are no map"):
        draw_overlay(picture(), weights(1), path)
    assert not path.exists()


def test_libraries_are_imported_when_drawing_only_and_never_pyplot(tmp_path):
    code = f"""
import pathlib, sys
import numpy as np
from attnbuild.drawing import alignment, confusion, heatmaps, words
assert not {{"matplotlib", "PIL", "torch"}} & set(sys.modules)
folder = pathlib.Path({str(tmp_path)!r})
alignment.draw_alignment(np.ones((1, 1, 1)), ["a"], ["b"], folder / "0.png")
confusion.draw_confusion(np.ones((1, 1)), ["a"], folder / "1.png")
heatmaps.draw_heatmaps(np.zeros((4, 4, 3), dtype=np.uint8), np.ones((1, 2, 2)), ["a"], folder / "2.png")
words.draw_words(["a"], np.ones(1), folder / "3.png")
assert not {{"matplotlib.pyplot", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
