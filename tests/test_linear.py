"""oneDNN's products are those of PyTorch, wherever they are used."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from attnbuild import linear
from attnbuild.linear import Linear, packed
from attnbuild.measure.flops import count_flops
from attnbuild.rnn import gru_step, lstm_step

ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
pytestmark = pytest.mark.skipif(not ONEDNN, reason="PyTorch is built without oneDNN")


@contextmanager
def onednn(worth_it: int = 0):
    """oneDNN for products of so many multiplications, on any processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_onednn_is_faster", lambda: True)
        patch.setattr(linear, "_packing_is_faster", lambda: True)
        patch.setattr(linear, "_WORTH_IT", worth_it)
        patch.setattr(linear, "_WORTH_IT_PACKED", worth_it)
        yield


def uses_onednn(call) -> bool:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return any("_linear_pointwise" in event.key for event in profile.key_averages())


def right(layer: Linear, rows: torch.Tensor) -> torch.Tensor:
    """What it should give, in double precision."""
    bias = None if layer.bias is None else layer.bias.double()
    return F.linear(rows.double(), layer.weight.double(), bias)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    bias=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_those_of_pytorch(shape, inputs, outputs, bias, transposed, seed):
    torch.manual_seed(seed)
    layer = Linear(inputs, outputs, bias=bias)
    rows = (
        torch.randn(*reversed(shape), inputs).permute(*reversed(range(len(shape))), -1)
        if transposed
        else (torch.randn(*shape, inputs))
    )
    rows.requires_grad_()
    tensors, wanted = [rows, *layer.parameters()], torch.randn(*shape, outputs)
    with onednn():
        found = layer(rows)
        gradients = torch.autograd.grad((found * wanted).sum(), tensors)
    expected = right(layer, rows)
    expected_gradients = torch.autograd.grad((expected * wanted).sum(), tensors)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients, expected_gradients, atol=1e-5, rtol=1e-5)


def test_gradients_can_be_differentiated():
    torch.manual_seed(0)
    layer, rows = Linear(5, 3), torch.randn(4, 5, requires_grad=True)
    seconds = []
    for call in (layer, lambda given_rows: right(layer, given_rows)):
        with onednn():
            gradients = torch.autograd.grad((call(rows) ** 3).sum(), [rows, layer.weight], create_graph=True)
            seconds.append(torch.autograd.grad(sum((g**2).sum() for g in gradients), [rows, layer.weight]))
    torch.testing.assert_close(*seconds, atol=1e-3, rtol=1e-4)


def test_a_gradient_of_one_value_for_all():
    layer, rows = Linear(5, 3), torch.randn(4, 5, requires_grad=True)
    with onednn():
        (gradient,) = torch.autograd.grad(layer(rows).sum(), rows)  # an expanded tensor comes back
    torch.testing.assert_close(gradient, layer.weight.detach().sum(0).expand(4, 5))


def test_only_large_products_of_single_precision_go_to_onednn():
    layer = Linear(64, 32)
    with onednn(worth_it=64 * 32 * 10):
        assert uses_onednn(lambda: layer(torch.randn(2, 5, 64)))
        assert not uses_onednn(lambda: layer(torch.randn(9, 64)))
        assert not uses_onednn(lambda: layer(torch.randn(64 * 10)[:64]))
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(10, 64)).dtype == torch.bfloat16
        layer.double()
        assert not uses_onednn(lambda: layer(torch.randn(10, 64, dtype=torch.double)))


def test_nothing_goes_there_where_it_is_no_faster(monkeypatch):
    monkeypatch.setattr(linear, "_onednn_is_faster", lambda: False)
    assert not uses_onednn(lambda: Linear(256, 256)(torch.randn(256, 256)))


def test_its_operations_are_counted():
    layer, rows = Linear(8, 4), torch.randn(3, 8, requires_grad=True)
    with onednn():
        count, _ = count_flops(lambda: layer(rows).sum().backward())
    assert count == 3 * 2 * 3 * 8 * 4  # forward, and backward for rows and weight


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_steps_of_recurrent_cells_are_those_of_pytorch(cell):
    torch.manual_seed(0)
    layer = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell](5, 3)
    inputs, hidden, memory = (torch.randn(4, width, requires_grad=True) for width in (5, 3, 3))

    def steps() -> list[torch.Tensor]:
        if cell == "lstm":
            return list(lstm_step(layer, inputs, hidden, memory))
        return [gru_step(layer, inputs, hidden)]

    leaves = [inputs, hidden, *layer.parameters()]
    theirs = steps()
    with onednn():
        ours = steps()
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(sum((one**2).sum() for one in found), leaves) for found in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@given(
    rows=st.integers(1, 70),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_packed_weights_give_the_same(rows, inputs, outputs, bias, seed):
    torch.manual_seed(seed)
    layer, states = Linear(inputs, outputs, bias=bias), torch.randn(1, rows, inputs)
    with onednn(), torch.inference_mode(), packed(layer):
        found = layer(states)
    torch.testing.assert_close(found, right(layer, states).float(), atol=1e-5, rtol=1e-5)


def test_weights_are_packed_for_a_while():
    layer, states = Linear(64, 32), torch.randn(5, 64)
    saved = layer.state_dict()
    with onednn(worth_it=5 * 64 * 32):
        with torch.no_grad(), packed(layer):
            assert uses_onednn(lambda: layer(states))
            assert not uses_onednn(lambda: layer(states[:1]))
            assert layer.state_dict().keys() == saved.keys()
            with torch.enable_grad():
                assert layer(states).requires_grad
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()
            assert not layer(states).any()


def test_without_wide_vectors_large_weights_are_packed_for_few_rows(monkeypatch):
    large, small = Linear(64, 32), Linear(32, 32)
    monkeypatch.setattr(linear, "_packing_is_faster", lambda: False)
    monkeypatch.setattr(linear, "_onednn_serves", lambda: True)
    monkeypatch.setattr(linear, "_LARGE", 64 * 32)
    monkeypatch.setattr(linear, "_WORTH_IT_PACKED", 0)
    model = torch.nn.ModuleList([large, small])
    with torch.no_grad(), packed(model):
        assert uses_onednn(lambda: large(torch.randn(5, 1, 64)))
        assert not uses_onednn(lambda: large(torch.randn(65, 64)))
        assert not uses_onednn(lambda: small(torch.randn(5, 32)))
        states = torch.randn(4, 64)
        torch.testing.assert_close(large(states), right(large, states).float(), atol=1e-5, rtol=1e-5)


def test_nothing_is_packed_where_it_is_no_faster():
    double = Linear(4, 4).double()
    with onednn(), torch.no_grad(), packed(double):
        assert not uses_onednn(lambda: double(torch.randn(9, 4, dtype=torch.double)))
