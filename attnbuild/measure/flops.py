"""How many floating point operations a call takes, counted as it runs.

``torch.utils.flop_counter`` sees every operation that reaches the device, in custom autograd functions and in
backward too: matrix products, convolutions and fused attention, a multiplication and an addition being two.
It counts no elementwise operation (tanh, exp, sums). Kernels that it does not know get their formula here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["count_flops"]

_aten = torch.ops.aten
Shape = Sequence[int]


def count_flops(call: Callable[[], Any]) -> tuple[int, Any]:
    """Run a call; returns how many operations it took, and its result."""
    missing = {kernel: formula for kernel, formula in _FORMULAS.items() if kernel not in flop_registry}
    with FlopCounterMode(display=False, custom_mapping=missing) as counter:
        result = call()
    return counter.get_total_flops(), result


def _flash_on_cpu(query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _flash_on_cpu_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _matrix_vector(matrix: Shape, vector: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * prod(matrix)


def _add_matrix_vector(added: Shape, matrix: Shape, vector: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * prod(matrix)


def _lstm_layer(
    inputs: Shape, input_weight: Shape, hidden_weight: Shape, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """A layer of an LSTM over a whole (T, B, D) sequence, as oneDNN runs it."""
    return 2 * inputs[0] * inputs[1] * (prod(input_weight) + prod(hidden_weight))


def _lstm_layer_backward(
    inputs: Shape, input_weight: Shape, hidden_weight: Shape, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return 2 * _lstm_layer(inputs, input_weight, hidden_weight)


def _rows_by_matrix(rows: Shape, weight: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * prod(rows) * weight[0]


#: What PyTorch 2.13 has no formula for.
_FORMULAS: dict[Any, Callable[..., int]] = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _flash_on_cpu,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _flash_on_cpu_backward,
    _aten.mv: _matrix_vector,
    _aten.dot: _matrix_vector,
    _aten.addmv: _add_matrix_vector,
    _aten.mkldnn_rnn_layer: _lstm_layer,
    _aten.mkldnn_rnn_layer_backward: _lstm_layer_backward,
    **({torch.ops.mkldnn._linear_pointwise: _rows_by_matrix} if hasattr(torch.ops.mkldnn, "_linear_pointwise") else {}),
}
