"""Alignment maps are drawn for any tokens and any length, and touch no global state of matplotlib."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from attnbuild.drawing.alignment import draw_alignment


def weights(heads, targets, sources):
    return np.random.default_rng(1).dirichlet(np.ones(sources), size=(heads, targets)).astype(np.float32)


def test_heads_are_drawn_averaged_and_single(tmp_path):
    path = tmp_path / "maps" / "0.png"
    sources, targets = ["a", "red", "dress", "</s>"], ["ein", "rotes", "Kleid"]
    files = draw_alignment(weights(4, 3, 4), sources, targets, path, title="step 500")
    assert files == [path, tmp_path / "maps" / "0_heads.png"]
    assert all(imread(file).ndim == 3 for file in files)


def test_one_head_needs_one_picture(tmp_path):
    path = tmp_path / "0.png"
    assert draw_alignment(weights(1, 2, 2), ["a", "b"], ["c", "d"], path) == [path]
    assert list(tmp_path.iterdir()) == [path]


def test_the_picture_shows_the_weights(tmp_path):
    path = tmp_path / "0.png"
    values = np.zeros((1, 2, 2))
    values[0, 0, 1] = 1.0
    draw_alignment(values, ["a", "b"], ["c", "d"], path)
    blue = (imread(path)[:, :, :3] @ [1, 0, -1]) < -0.25  # the full colour; the colour bar is right of it
    grid = blue[:, : int(0.6 * blue.shape[1])]
    assert grid.any()


@pytest.mark.parametrize(
    "label",
    [
        "日本語",
        "مرحبا بالعالم",
        "नमस्ते",
        "🙂",
        "$x^",
        r"\frac{",
        "",
        " ",
        "▁the",
        "Ġthe",
        "\x00\n\t",
        "\ud800",
        "w" * 500,
    ],
    ids=ascii,
)
def test_any_label_is_drawn_without_a_warning(tmp_path, label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_alignment(weights(1, 2, 2), [label, "a"], ["b", label], tmp_path / "0.png", title=label)


def test_long_sentences_make_pictures_of_bounded_size(tmp_path):
    sources, targets = [f"source{i}" for i in range(120)], [f"target{i}" for i in range(100)]
    for file in draw_alignment(weights(2, 100, 120), sources, targets, tmp_path / "0.png"):
        assert max(imread(file).shape) < 5000


def test_weights_that_are_all_zero_or_nan_are_drawn(tmp_path):
    for value in (0.0, np.nan):
        assert draw_alignment(np.full((2, 2, 2), value), ["a", "b"], ["c", "d"], tmp_path / "0.png")


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"weights \(1, 2, 3\) do not fit labels \(heads, 2, 2\)"):
        draw_alignment(weights(1, 2, 3), ["a", "b"], ["c", "d"], tmp_path / "0.png")


def test_matplotlib_is_imported_when_drawing_only_and_never_pyplot(tmp_path):
    code = f"""
import pathlib, sys
import numpy as np
from attnbuild.drawing.alignment import draw_alignment
assert "matplotlib" not in sys.modules
draw_alignment(np.ones((1, 1, 1)), ["a"], ["b"], pathlib.Path({str(tmp_path / "0.png")!r}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
