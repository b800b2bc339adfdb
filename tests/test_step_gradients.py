"""Keys and values that steps read one by one get the gradient that they would get from all queries at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import attnbuild
from attnbuild.linear import Linear
from attnbuild.memory import Memory, masked_mean
from attnbuild.step_gradients.attention import mixed_by_step, rated_additively_by_step, rated_by_step
from attnbuild.step_gradients.gathering import is_read_by_steps, read_by_steps
from attnbuild.step_gradients.weights import multiplied_by_head_by_step, multiplied_by_step, weights_read_by_steps

SHAPE = st.tuples(*(st.integers(1, 4) for _ in range(4)), st.integers(1, 5))


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value


def attended_by_steps(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    key, value = read_by_steps(key), read_by_steps(value)
    outputs = []
    for asked in query.split(1, dim=2):
        scores = rated_by_step(asked, key)
        assert scores is not None
        mixed = mixed_by_step(scores.softmax(dim=-1), value)
        assert mixed is not None
        outputs.append(mixed)
    return outputs


def drawn(shape: tuple[int, ...]) -> list[Tensor]:
    batch, heads, keys, width, steps = shape
    generator = torch.Generator().manual_seed(sum(shape))
    return [
        torch.randn(batch, heads, count, width, dtype=torch.float64, generator=generator).requires_grad_()
        for count in (steps, keys, keys)
    ]


@given(shape=SHAPE)
def test_steps_are_all_queries_at_once(shape: tuple[int, ...]) -> None:
    inputs = drawn(shape)
    together, apart = attended(*inputs), torch.cat(attended_by_steps(*inputs), dim=2)
    torch.testing.assert_close(apart, together)
    wanted = torch.randn_like(together)
    for found, expected in zip(
        torch.autograd.grad(apart, inputs, wanted), torch.autograd.grad(together, inputs, wanted), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_backward_of_some_steps_and_backward_again() -> None:
    """What one backward pass gathered is no part of the next one's."""
    inputs = drawn((2, 3, 4, 5, 3))
    apart, together = attended_by_steps(*inputs), attended(*inputs).split(1, dim=2)
    for steps in ([1], [0, 2], [0, 1, 2], [1]):
        found, expected = (
            torch.autograd.grad(sum(outputs[step].sum() for step in steps), inputs, retain_graph=True)
            for outputs in (apart, together)
        )
        torch.testing.assert_close(found, expected)


def test_states_that_are_read_otherwise_too_get_both_gradients() -> None:
    _, key, _ = drawn((2, 1, 3, 4, 1))
    query = torch.randn(2, 1, 1, 4, dtype=torch.float64)
    read = read_by_steps(key)
    scores = rated_by_step(query, read)
    assert scores is not None
    (found,) = torch.autograd.grad((scores.sum() + read.square().sum()), key)
    torch.testing.assert_close(found, query.expand_as(key) + 2 * key)


def test_what_learns_nothing_or_is_shared_by_heads_is_left_to_others() -> None:
    query, key, _ = drawn((2, 4, 3, 5, 1))
    assert read_by_steps(key.detach()).grad_fn is None
    with torch.no_grad():
        assert read_by_steps(key) is key
    assert rated_by_step(query, key) is None
    assert rated_by_step(query, read_by_steps(key[:, :1])) is None
    assert rated_by_step(query.float(), read_by_steps(key)) is None


@pytest.mark.parametrize("preset", ["multihead", "luong_dot", "luong_general", "grouped_query", "bahdanau"])
def test_layers_learn_the_same_step_by_step(preset: str) -> None:
    torch.manual_seed(1)
    layer = attnbuild.build_attention(preset, dim=8, memory_dim=8)
    query, states = torch.randn(2, 3, 8), torch.randn(2, 5, 8, requires_grad=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    wanted = torch.randn(2, 3, layer.out_dim)

    def gradients(outputs: Tensor) -> dict[str, Tensor]:
        layer.zero_grad()
        states.grad = None
        outputs.backward(wanted)
        assert states.grad is not None
        return {"states": states.grad, **{name: p.grad.clone() for name, p in layer.named_parameters()}}

    memory = Memory(states, padding, masked_mean(states, padding))
    together = gradients(layer.attend(query, memory).values)
    state, outputs = layer.start(memory), []
    for asked in query.split(1, dim=1):
        output, state = layer.step(asked, state, sentences=2)
        outputs.append(output.values)
    torch.testing.assert_close(gradients(torch.cat(outputs, dim=1)), together)


@given(shape=SHAPE)
def test_additive_steps_are_the_formula(shape: tuple[int, ...]) -> None:
    """The key is read by products too, as values are where they are the keys."""
    query, key, _ = drawn(shape)
    vectors = torch.randn(shape[1], shape[3], 1, dtype=torch.float64).requires_grad_()
    read, rates, products = read_by_steps(key), [], []
    for asked in query.split(1, dim=2):
        rates.append(rated_additively_by_step(asked, read, vectors))
        products.append(rated_by_step(asked, read))
    apart = torch.cat(rates, dim=2) + torch.cat(products, dim=2)
    hidden = (query.unsqueeze(3) + key.unsqueeze(2)).tanh()
    together = (hidden @ vectors.unsqueeze(1)).squeeze(-1) + query @ key.transpose(-2, -1)
    torch.testing.assert_close(apart, together)
    wanted, inputs = torch.randn_like(together), (query, key, vectors)
    for found, expected in zip(
        torch.autograd.grad(apart, inputs, wanted), torch.autograd.grad(together, inputs, wanted), strict=True
    ):
        torch.testing.assert_close(found, expected)


@given(shape=SHAPE, bias=st.booleans())
def test_weights_learn_from_all_steps_at_once(shape: tuple[int, ...], bias: bool) -> None:
    batch, rows, inputs, outputs, steps = shape
    torch.manual_seed(sum(shape))
    layer = Linear(inputs, outputs, bias=bias).double()
    given_rows = torch.randn(steps, batch, rows, inputs, dtype=torch.float64, requires_grad=True)
    with weights_read_by_steps(layer):
        assert is_read_by_steps(layer.weight)
        apart = torch.stack([layer(part) for part in given_rows])
    assert layer.weight is dict(layer.named_parameters())["weight"]
    together = layer(given_rows)
    torch.testing.assert_close(apart, together)
    wanted, learning = torch.randn_like(together), [given_rows, *layer.parameters()]
    found, expected = (torch.autograd.grad(made, learning, wanted) for made in (apart, together))
    torch.testing.assert_close(found, expected)


@given(shape=SHAPE)
def test_matrices_of_heads_learn_from_all_steps_at_once(shape: tuple[int, ...]) -> None:
    query, _, _ = drawn(shape)
    matrices = torch.randn(shape[1], shape[3], 3, dtype=torch.float64).requires_grad_()
    read = read_by_steps(matrices)
    products = [multiplied_by_head_by_step(asked, read) for asked in query.split(1, dim=2)]
    apart, together = torch.cat(products, dim=2), query @ matrices
    torch.testing.assert_close(apart, together)
    wanted = torch.randn_like(together)
    found, expected = (torch.autograd.grad(made, [query, matrices], wanted) for made in (apart, together))
    torch.testing.assert_close(found, expected)


def test_weights_are_themselves_again_whatever_happens() -> None:
    layer = Linear(3, 2)
    with pytest.raises(KeyboardInterrupt), weights_read_by_steps(layer):
        raise KeyboardInterrupt
    assert type(layer.weight) is torch.nn.Parameter


def test_weights_that_learn_nothing_or_in_another_precision_are_left_alone() -> None:
    layer, rows = Linear(3, 2), torch.randn(4, 3)
    with weights_read_by_steps(layer.requires_grad_(False)):
        assert not is_read_by_steps(layer.weight)
    layer.requires_grad_()
    with torch.no_grad(), weights_read_by_steps(layer):
        assert not is_read_by_steps(layer.weight)
    with torch.autocast("cpu", torch.bfloat16), weights_read_by_steps(layer):
        assert not is_read_by_steps(layer.weight)
    with weights_read_by_steps(layer):
        assert multiplied_by_step(rows.double(), layer.weight, None) is None
        with torch.no_grad():
            assert multiplied_by_step(rows, layer.weight, None) is None


def test_only_what_is_asked_for_is_gathered() -> None:
    """A gradient of the rows alone leaves nothing behind for the next one of the weights."""
    layer, rows = Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    with weights_read_by_steps(layer):
        made = layer(rows).sum()
    torch.autograd.grad(made, rows, retain_graph=True)
    (found,) = torch.autograd.grad(made, layer.weight)
    torch.testing.assert_close(found, rows.sum(dim=0).expand(2, 3))
