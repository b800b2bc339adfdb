"""A product in a form of its own gives what the plain formula gives, and so do its gradients."""

from __future__ import annotations

import pytest
import torch

from attnbuild.attention.products import scored


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("heads", [1, 2])
def test_scored(heads: int, queries: int) -> None:
    hidden = torch.randn(2, heads, queries, 5, 4, dtype=torch.double, requires_grad=True)
    vectors = torch.randn(heads, 4, 1, dtype=torch.double, requires_grad=True)
    formula = torch.einsum("bhnsd,hd->bhns", hidden, vectors.squeeze(-1))
    torch.testing.assert_close(scored(hidden, vectors), formula)
    with torch.no_grad():
        torch.testing.assert_close(scored(hidden, vectors), formula)
    torch.autograd.gradcheck(scored, (hidden, vectors))
    torch.autograd.gradgradcheck(scored, (hidden, vectors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scored_under_autocast(dtype: torch.dtype) -> None:
    hidden = torch.randn(2, 1, 3, 5, 4).to(dtype).requires_grad_()
    vectors = torch.randn(1, 4, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        rates = scored(hidden, vectors)
    assert rates.dtype == torch.bfloat16
    rates.sum().backward()
    assert hidden.grad is not None
    assert vectors.grad is not None
    expected = vectors.detach().view(4).expand_as(hidden)
    torch.testing.assert_close(hidden.grad.float(), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(vectors.grad.view(4), hidden.detach().float().sum(dim=(0, 1, 2, 3)), rtol=2e-2, atol=0.1)
