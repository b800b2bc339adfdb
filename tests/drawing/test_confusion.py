"""Confusion matrices are drawn for any number of labels; the table of scores is Markdown."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from attnbuild.drawing.confusion import _short, draw_confusion, per_class_table


def matrix(labels):
    rng = np.random.default_rng(0)
    return rng.poisson(2, (labels, labels)) + np.diag(rng.integers(0, 50, labels))


@pytest.mark.parametrize("labels", [1, 2, 20, 21, 100])
def test_any_number_of_labels(tmp_path, labels):
    path = tmp_path / "folder" / "0.png"
    assert draw_confusion(matrix(labels), [f"label {i}" for i in range(labels)], path, "test") == path
    assert max(imread(path).shape) < 3500


def test_rows_are_shares_so_rare_labels_are_as_dark_as_frequent_ones(tmp_path):
    draw_confusion(np.array([[10000, 0], [0, 3]]), ["often", "rare"], tmp_path / "even.png")
    draw_confusion(np.array([[7, 0], [0, 7]]), ["often", "rare"], tmp_path / "same.png")
    draw_confusion(np.array([[0, 7], [7, 0]]), ["often", "rare"], tmp_path / "swapped.png")
    even, same, swapped = (imread(tmp_path / f"{name}.png")[:, :, :3] for name in ("even", "same", "swapped"))
    # They differ in the digits alone, not in the ground.
    assert (abs(even - same).max(axis=2) > 0.2).mean() < 0.01
    assert (abs(swapped - same).max(axis=2) > 0.2).mean() > 0.1


def test_a_label_without_examples_is_an_empty_row(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"], tmp_path / "0.png")


@pytest.mark.parametrize("name", ["日本語", "مرحبا", "$x^", "", "\x00", "\ud800", "w" * 500], ids=ascii)
def test_any_label_is_drawn_without_a_warning(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(matrix(2), [name, "b"], tmp_path / "0.png", title=name)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a matrix \(2, 2\) does not fit 3 labels"):
        draw_confusion(matrix(2), ["a", "b", "c"], tmp_path / "0.png")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9999, "9999"), (12345, "12k"), (999_999, "1000k"), (12_345_678, "12M"), (2e10, "20G")],
)
def test_counts_fit_into_cells(count, text):
    assert _short(count) == text


def test_the_table_is_markdown_in_columns():
    table = per_class_table(["ABBR|x", "long\nname"], [0.5, 1.0], [1, 0.25], [2 / 3, 0.4], [3, 1000])
    assert table.splitlines() == [
        "| label     | precision | recall |    F1 | support |",
        "| --------- | --------: | -----: | ----: | ------: |",
        r"| ABBR\|x   |     0.500 |  1.000 | 0.667 |       3 |",
        "| long·name |     1.000 |  0.250 | 0.400 |    1000 |",
    ]


def test_the_table_takes_tensors_and_refuses_columns_that_differ():
    import torch

    scores = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert "0.250" in per_class_table(["a", "b"], scores, scores, scores, torch.tensor([1, 2]))
    with pytest.raises(ValueError):
        per_class_table(["a"], scores, scores, scores, [1, 2])
