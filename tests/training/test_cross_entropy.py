"""The loss of a large vocabulary is torch's, value and gradient, in any chunks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnbuild.training import cross_entropy
from attnbuild.training.cross_entropy import token_losses

IGNORED = 0


def both(rows: int, classes: int, smoothing: float, dtype: torch.dtype, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Losses and gradients of the states before the logits: torch's, and ours."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(rows, 3, generator=generator).to(dtype)
    weight = torch.randn(3, classes, generator=generator).to(dtype)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    upstream = torch.randn(rows, generator=generator)
    found = []
    for is_ours in (False, True):
        leaf = states.clone().requires_grad_()
        logits = leaf @ weight
        if is_ours:
            losses = token_losses(logits, targets, ignore=IGNORED, smoothing=smoothing)
        else:
            wide = logits.to(torch.promote_types(dtype, torch.float32))
            losses = F.cross_entropy(wide, targets, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none")
        (gradient,) = torch.autograd.grad(losses, leaf, upstream.to(losses.dtype))
        found.append((losses.detach(), gradient))
    return found


@settings(max_examples=60)
@given(
    rows=st.integers(0, 9),
    classes=st.integers(1, 12),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    at_once=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_it_is_torchs(rows: int, classes: int, smoothing: float, dtype: torch.dtype, at_once: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cross_entropy._AT_ONCE, "cpu", at_once)
        theirs, ours = both(rows, classes, smoothing, dtype, seed)
    torch.testing.assert_close(ours, theirs)


def test_half_precision_is_summed_in_single() -> None:
    theirs, ours = both(6, 4000, 0.1, torch.bfloat16, seed=1)
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1], rtol=0.05, atol=0.05)


def test_the_logits_are_spent() -> None:
    states = torch.randn(2, 3, requires_grad=True)
    losses = token_losses(states * 2, torch.tensor([1, 2]), ignore=IGNORED)
    losses.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes through token_losses once"):
        losses.sum().backward()


def test_without_a_gradient_the_logits_stay() -> None:
    logits = torch.randn(4, 5)
    before = logits.clone()
    token_losses(logits, torch.tensor([1, 2, 0, 4]), ignore=IGNORED, smoothing=0.1)
    assert torch.equal(logits, before)
