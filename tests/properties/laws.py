"""The laws every attention obeys. Each takes a case and fails by an assertion."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from attnbuild.attention.block import AttentionBlock
from attnbuild.memory import Memory, masked_mean
from tests.properties.cases import DIM, Case


def output_equals_the_weighted_form(case: Case) -> None:
    """What is computed fast is what the path that returns weights computes."""
    layer, (query, memory, padding) = case.build(), case.inputs()
    fast = layer(query, memory, key_padding_mask=padding)
    slow, _ = layer(query, memory, key_padding_mask=padding, need_weights=True)
    torch.testing.assert_close(fast, slow)


def weights_are_what_they_claim(case: Case) -> None:
    """Distribution: rows sum to 1, or to 0 without keys; distribution and effective: they make the values."""
    layer, (query, memory, padding) = case.build(), case.inputs()
    claim = layer.spec.capabilities.weights
    _, weights = layer(query, memory, key_padding_mask=padding, need_weights=True)
    assert (weights is None) == (claim == "none")
    if weights is None:
        return
    states = query if memory is None else memory
    seen = Memory(states, padding, masked_mean(states, padding))
    key, value, _ = layer._keys_and_values(seen)
    attended = layer.core.attend(layer._queries(query), key, value, padding)
    torch.testing.assert_close(layer.core.mix(weights, value), attended.values)
    assert (weights * padding[:, None, None, :] == 0).all()
    if claim == "distribution":
        sums, ones = weights.sum(dim=-1), torch.ones((), dtype=weights.dtype)
        torch.testing.assert_close(sums, torch.where(sums == 0, 0 * ones, ones))
        if case.lengths and min(case.lengths) == case.keys:
            torch.testing.assert_close(sums, ones * _sees_any_key(layer, case).expand_as(sums))


def _sees_any_key(layer: AttentionBlock, case: Case) -> Tensor:
    """Whether the pattern shows a query anything at all, broadcast to (B, H, N)."""
    pattern = getattr(layer.core, "pattern", None)
    if pattern is None:
        return torch.ones((), dtype=torch.bool)
    head, key = torch.arange(layer.heads).view(-1, 1, 1), torch.arange(case.keys)
    query = torch.arange(case.queries).unsqueeze(1)
    seen = pattern.mask_mod(head, query, key) & (key <= query if case.place.causal else key >= 0)
    return seen.any(dim=-1)


def padding_changes_nothing(case: Case) -> None:
    """More padding, and other numbers in it, leave every real position as it was."""
    layer, (query, memory, padding) = case.build(), case.inputs()
    before = layer(query, memory, key_padding_mask=padding)
    rows = len(case.lengths)
    junk = torch.full((rows, 3, DIM), 7.0, dtype=query.dtype)
    longer = torch.cat([padding, torch.ones(rows, 3, dtype=torch.bool)], dim=1)
    if memory is None:
        replaced = torch.where(padding.unsqueeze(-1), -5.0, query)
        after = layer(torch.cat([replaced, junk], dim=1), key_padding_mask=longer)[:, : case.queries]
        real = ~padding
        torch.testing.assert_close(after[real], before[real])
    else:
        replaced = torch.where(padding.unsqueeze(-1), -5.0, memory)
        after = layer(query, torch.cat([replaced, junk], dim=1), key_padding_mask=longer)
        torch.testing.assert_close(after, before)


def the_future_is_not_seen(case: Case) -> None:
    """No gradient flows from position i to an input after i, nor does its value move when that input does.

    In training, with dropout, at full precision; what is drawn is drawn alike. The values find what selection
    (a sample, a sort, a largest few) hides from gradients.
    """
    if not case.place.causal:
        return
    layer, (query, _, _) = case.build().train(), case.inputs()
    if hasattr(layer.core, "dropout"):
        layer.core.dropout = 0.3
    query.requires_grad_()
    twin = copy.deepcopy(layer)  # a layer may draw its features anew with every call
    torch.manual_seed(case.seed)
    output = layer(query)
    past = (case.queries + 1) // 2
    torch.manual_seed(case.seed)
    moved = twin(torch.cat([query[:, :past], 3 * query[:, past:].flip(1) - 1], dim=1))
    torch.testing.assert_close(moved[:, :past], output[:, :past])
    for position in range(case.queries):
        (gradient,) = torch.autograd.grad(output[:, position].sum(), query, retain_graph=True)
        assert (gradient[:, position + 1 :] == 0).all(), f"position {position} sees the future"


def stepping_equals_the_whole(case: Case) -> None:
    """Token by token gives what all at once gives, also after the beams were reordered."""
    layer, (query, memory, padding) = case.build(), case.inputs()
    if not layer.spec.capabilities.incremental or not (case.place.causal or case.place.cross):
        return
    states = query if memory is None else memory
    mask = padding if memory is not None else None
    remembered = Memory(states, mask, masked_mean(states, mask))
    whole = layer.attend(query, remembered, need_weights=True)
    sentences, beams = len(case.lengths), 2
    state = layer.start(remembered)
    rows = torch.arange(sentences).repeat_interleave(beams)
    state = state.select(rows=rows)
    for step in range(case.queries):
        attended, state = layer.step(query[rows, step : step + 1], state, sentences, need_weights=True)
        torch.testing.assert_close(attended.values, whole.values[rows, step : step + 1])
        if whole.weights is not None and attended.weights is not None:
            seen = attended.weights.shape[-1]
            expected = whole.weights[rows, :, step : step + 1]
            # A cache may have dropped keys that are out of reach: what is left is the end of the row.
            last = step + 1 if case.place.causal else case.keys
            torch.testing.assert_close(attended.weights, expected[..., last - seen : last])
        swap = torch.arange(sentences * beams).view(sentences, beams).flip(1).flatten()
        state = state.select(rows=swap)


def a_batch_equals_its_rows(case: Case) -> None:
    layer, (query, memory, padding) = case.build(), case.inputs()
    whole = layer(query, memory, key_padding_mask=padding)
    for row in range(len(case.lengths)):
        part = slice(row, row + 1)
        alone = layer(query[part], None if memory is None else memory[part], key_padding_mask=padding[part])
        torch.testing.assert_close(alone, whole[part])


def rows_without_keys_give_zero(case: Case) -> None:
    """Forward 0 and backward finite, whatever backend runs."""
    layer, (query, memory, _) = case.build(), case.inputs()
    nothing = torch.ones(len(case.lengths), case.keys, dtype=torch.bool)
    inputs = [tensor.requires_grad_() for tensor in (query, memory) if tensor is not None]
    for need_weights in (False, True):
        output = layer(query, memory, key_padding_mask=nothing, need_weights=need_weights)
        values = output[0] if isinstance(output, tuple) else output
        for gradient in torch.autograd.grad(values.sum(), inputs, allow_unused=True):
            assert gradient is None or gradient.isfinite().all()
        if layer.spec.capabilities.weights != "none":
            # A fresh layer's output bias is 0, so nothing attended to is exactly 0.
            assert (values == 0).all()


def every_parameter_gets_a_gradient(case: Case) -> None:
    """In training; where a core chooses by sampling, its own term counts."""
    layer, (query, memory, _) = case.build().train(), case.inputs()
    parameters = dict(layer.named_parameters())
    if not parameters:
        return
    states = query if memory is None else memory
    torch.manual_seed(case.seed)
    attended = layer.attend(query, Memory(states, None, masked_mean(states, None)))
    loss = (attended.values * torch.randn_like(attended.values)).sum()
    if attended.choice is not None:
        loss = loss + attended.choice.loss(torch.randn(len(case.lengths), dtype=loss.dtype))
    loss.backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), name


def gradients_are_right(case: Case) -> None:
    """gradcheck in float64."""
    layer, (query, memory, padding) = case.build(), case.inputs()
    if not layer.spec.capabilities.differentiable:
        return
    inputs = [tensor.requires_grad_() for tensor in (query, memory) if tensor is not None]

    def attend(*tensors: Tensor) -> Tensor:
        return layer(*tensors, key_padding_mask=padding)

    assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)


LAWS = [
    output_equals_the_weighted_form,
    weights_are_what_they_claim,
    padding_changes_nothing,
    the_future_is_not_seen,
    stepping_equals_the_whole,
    a_batch_equals_its_rows,
    rows_without_keys_give_zero,
    every_parameter_gets_a_gradient,
    gradients_are_right,
]
