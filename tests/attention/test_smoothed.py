"""Chorowski et al. 2015, section 2.3: sigmoids in place of exponentials."""

from __future__ import annotations

import math

import torch

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.weightings.smoothed import Smoothed

SMOOTHED = Smoothed(HeadPlace("attention", 8, 8))


def test_equals_the_paper_over_the_allowed_keys() -> None:
    scores = 3 * torch.randn(2, 2, 3, 6, dtype=torch.float64)
    allowed = torch.arange(6) < torch.tensor([6, 4]).view(2, 1, 1, 1)
    weights = SMOOTHED(scores, allowed)
    for row, real in enumerate([6, 4]):
        for head in range(2):
            for query in range(3):
                sigmoids = [1 / (1 + math.exp(-score)) for score in scores[row, head, query, :real].tolist()]
                expected = [value / sum(sigmoids) for value in sigmoids] + [0.0] * (6 - real)
                torch.testing.assert_close(weights[row, head, query].tolist(), expected)


def test_where_every_sigmoid_underflows_it_is_softmax() -> None:
    scores = torch.tensor([[[[-500.0, -501.0, -502.0]]]])
    torch.testing.assert_close(SMOOTHED(scores, None), scores.softmax(-1))
