"""Softmax over exactly k keys, the earlier of equal ones; all where fewer are allowed."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild import build_attention
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.weightings.topk import TopK
from tests.attention.steps import assert_beams_equal_their_histories

PLACE = HeadPlace("attention", 8, 8)
INF = math.inf


def loops(scores: list[float], k: int) -> list[float]:
    """-inf = not allowed."""
    allowed = [j for j in range(len(scores)) if scores[j] > -INF]
    kept = sorted(allowed, key=lambda j: (-scores[j], j))[:k]
    total = sum(math.exp(scores[j]) for j in kept)
    return [math.exp(scores[j]) / total if j in kept else 0.0 for j in range(len(scores))]


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "scores",
    [
        [0.1, 2.0, -1.0, 0.5, 1.5],
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [2.0, 1.0, 3.0, 1.0, 1.0],
        [-INF, 1.0, 1.0, -INF, 2.0],
        [-INF, -INF, -INF, 0.3, -INF],
        [-INF, -INF, -INF, -INF, -INF],
    ],
)
def test_equals_the_definition_with_ties_and_few_keys(scores: list[float], k: int) -> None:
    given = torch.tensor([[[scores]]], dtype=torch.float64)
    allowed = given > -INF
    weights = TopK(PLACE, k=k)(given.masked_fill(~allowed, 100.0), allowed)
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor(loops(scores, k), dtype=torch.float64))
    if allowed.all():
        torch.testing.assert_close(TopK(PLACE, k=k)(given, None), weights)


def test_gradients_reach_the_kept_scores_alone() -> None:
    scores = torch.randn(1, 2, 5, 9, dtype=torch.float64, requires_grad=True)
    weights = TopK(PLACE, k=3)(scores, None)
    (gradient,) = torch.autograd.grad((weights * torch.randn_like(weights)).sum(), scores)
    assert torch.equal(gradient != 0, weights > 0)


def test_k_of_all_keys_is_multihead() -> None:
    layer = build_attention("topk", dim=8, k=6).double()
    plain = build_attention("multihead", dim=8).double()
    plain.load_state_dict(layer.state_dict())
    query = torch.randn(2, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(query), plain(query))
    assert not torch.allclose(build_attention("topk", dim=8, k=2).double()(query), plain(query))


def test_beams_equal_their_histories() -> None:
    memory, padding = torch.randn(2, 7, 8, dtype=torch.float64), torch.arange(7) >= torch.tensor([[7], [2]])
    assert_beams_equal_their_histories(build_attention("topk", dim=8, memory_dim=8, k=3).double(), memory, padding)
