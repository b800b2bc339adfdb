"""Peters et al. 2019: 1.5-entmax is [e/2 - t]^2 with the t that makes it sum to 1, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.weightings.entmax15 import Entmax15
from tests.attention.steps import assert_beams_equal_their_histories

ENTMAX15 = Entmax15(HeadPlace("attention", 8, 8))


def draw(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def definition(scores: list[float]) -> list[float]:
    """The threshold by bisection: no sorting, nothing in common with the exact algorithm."""
    low, high = max(scores) / 2 - 1, max(scores) / 2
    for _ in range(200):
        middle = (low + high) / 2
        total = sum(max(score / 2 - middle, 0.0) ** 2 for score in scores)
        low, high = (middle, high) if total > 1 else (low, middle)
    return [max(score / 2 - low, 0.0) ** 2 for score in scores]


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 10.0])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_equals_the_definition_over_the_allowed_keys(scale: float, length: int) -> None:
    scores = draw(2, 1, 3, length, scale=scale)
    allowed = torch.arange(length) < torch.tensor([length, (length + 1) // 2]).view(2, 1, 1, 1)
    weights = ENTMAX15(scores, allowed)
    for row, real in enumerate([length, (length + 1) // 2]):
        for query in range(3):
            expected = torch.zeros(length, dtype=torch.float64)
            expected[:real] = torch.tensor(definition(scores[row, 0, query, :real].tolist()))
            torch.testing.assert_close(weights[row, 0, query], expected)


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_equals_the_entmax_package_forward_and_backward(scale: float) -> None:
    entmax = pytest.importorskip("entmax", reason="entmax is not installed")
    scores, direction = draw(2, 3, 4, 50, scale=scale).requires_grad_(), draw(2, 3, 4, 50, seed=1)
    weights, expected = ENTMAX15(scores, None), entmax.entmax15(scores, dim=-1)
    torch.testing.assert_close(weights, expected)
    (gradient,) = torch.autograd.grad((weights * direction).sum(), scores)
    (theirs,) = torch.autograd.grad((expected * direction).sum(), scores)
    torch.testing.assert_close(gradient, theirs)


def test_gradient_is_right() -> None:
    allowed = torch.arange(6) < torch.tensor([6, 3, 0]).view(3, 1, 1, 1)
    assert torch.autograd.gradcheck(lambda scores: ENTMAX15(scores, allowed), draw(3, 2, 2, 6).requires_grad_())


def test_large_scores_long_rows_and_ties() -> None:
    one = torch.zeros(1, 1, 1, 5)
    one[..., 2] = 1.0
    assert torch.equal(ENTMAX15(1e30 * one, None), one)
    torch.testing.assert_close(ENTMAX15(torch.full((1, 1, 1, 8), -1e30), None), torch.full((1, 1, 1, 8), 1 / 8))
    long = draw(1, 1, 2, 20000)
    torch.testing.assert_close(ENTMAX15(long.float(), None).double(), ENTMAX15(long, None), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gap", [1.0, 1.999, 2.0, 2.001, 50.0])
def test_one_key_ahead_of_many_equal_ones(gap: float) -> None:
    """At a gap of 2 the others leave the support: rounding must not let thousands of them back in."""
    scores = torch.zeros(1, 1, 1, 5000)
    scores[..., 0] = gap
    weights = ENTMAX15(scores, None)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 1), rtol=0, atol=5e-5)
    torch.testing.assert_close(weights.double(), ENTMAX15(scores.double(), None), rtol=0, atol=5e-5)


def test_nothing_allowed_gives_0_forward_and_backward() -> None:
    scores = draw(1, 1, 2, 4).requires_grad_()
    weights = ENTMAX15(scores, torch.zeros(1, 1, 1, 4, dtype=torch.bool))
    weights.sum().backward()
    assert (weights == 0).all()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_single(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, query = build_attention("entmax15", dim=16, causal=True), torch.randn(2, 7, 16)
    expected = layer(query)
    torch.testing.assert_close(layer.to(dtype)(query.to(dtype)).float(), expected, rtol=0.1, atol=0.06)


def test_beams_equal_their_histories() -> None:
    memory, padding = draw(2, 7, 8), torch.arange(7) >= torch.tensor([[7], [2]])
    assert_beams_equal_their_histories(build_attention("entmax15", dim=8, memory_dim=8).double(), memory, padding)
