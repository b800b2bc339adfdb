"""FlexAttention against the reference: on CPU where no gradient is needed, on CUDA with gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from attnbuild import build_attention
from attnbuild.attention.backends import flex

DIM, HEADS = 64, 4


def twins(pattern: str, causal: bool, **options: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same layer run by flex and by the reference."""
    one, other = (
        build_attention(pattern, dim=DIM, heads=HEADS, causal=causal, backend=backend, **options)
        for backend in ("flex", "reference")
    )
    other.load_state_dict(one.state_dict())
    return one, other


def test_it_says_why_it_cannot_run() -> None:
    need = build_attention("window", dim=DIM, heads=HEADS).core.need()
    at = replace(need, device="cpu", queries=300, keys=300)
    assert flex.refusal(replace(at, gradient=False)) is None
    assert "no backward pass" in str(flex.refusal(replace(at, gradient=True)))
    assert "cannot drop" in str(flex.refusal(replace(at, gradient=False, dropout=True)))
    assert "no float64" in str(flex.refusal(replace(at, gradient=False, dtype=torch.float64)))


@pytest.mark.parametrize("pattern", ["window", "strided", "fixed", "bigbird"])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_the_mask_hold_every_pair(pattern: str, causal: bool) -> None:
    layer = build_attention(pattern, dim=DIM, heads=HEADS, causal=causal).core.pattern
    length = 3 * flex.BLOCK
    position = torch.arange(length)
    seen = layer.mask_mod(torch.arange(HEADS).view(-1, 1, 1), position.view(-1, 1), position)
    seen = (seen & (position <= position.view(-1, 1)) if causal else seen).expand(HEADS, length, length)
    blocks = seen.unflatten(2, (3, -1)).unflatten(1, (3, -1)).any(dim=4).any(dim=2)
    touched = flex._touched(layer.pieces(), length, causal, HEADS)
    assert (touched | ~blocks).all()
    assert (touched == blocks).float().mean() > 0.5


def test_training_on_cpu_leaves_it_to_another_backend() -> None:
    one, other = twins("window", False, window=3)
    states = torch.randn(2, 20, DIM)
    torch.testing.assert_close(one(states), other(states))


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "causal"), [("window", False), ("window", True), ("bigbird", False)])
def test_equals_the_reference_on_cpu(pattern: str, causal: bool) -> None:
    torch.manual_seed(0)
    one, other = twins(pattern, causal)
    for length in (130, 300):
        states = torch.randn(2, length, DIM)
        padding = torch.arange(length) >= torch.tensor([[length], [length // 2]])
        with torch.no_grad():
            torch.testing.assert_close(one(states), other(states), rtol=1e-4, atol=1e-5)
            padded = one(states, key_padding_mask=padding)
            torch.testing.assert_close(padded, other(states, key_padding_mask=padding), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_layers_share_what_was_compiled() -> None:
    states = torch.randn(1, 256, DIM)
    with torch.no_grad():
        twins("window", True, window=9)[0](states)
        before, masks = flex.compilations(), len(flex._masks)
        twins("window", True, window=9)[0](states)
    assert (flex.compilations(), len(flex._masks)) == (before, masks)


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("pattern", ["window", "dilated", "strided", "fixed", "bigbird", "logsparse"])
def test_equals_the_reference_on_cuda(pattern: str, causal: bool) -> None:
    torch.manual_seed(0)
    one, other = (layer.cuda() for layer in twins(pattern, causal))
    for length in (300, 512):
        states = torch.randn(2, length, DIM, device="cuda", requires_grad=True)
        padding = torch.arange(length, device="cuda") >= torch.tensor([[length], [length // 2]], device="cuda")
        arriving = torch.randn_like(states)
        found = []
        for layer in (one, other):
            output = layer(states, key_padding_mask=padding)
            found.append([output, *torch.autograd.grad(output, [states, *layer.parameters()], arriving)])
        for fast, slow in zip(*found, strict=True):
            torch.testing.assert_close(fast, slow, rtol=1e-2, atol=1e-3)
