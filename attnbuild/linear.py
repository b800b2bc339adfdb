"""Linear maps, by the faster of PyTorch's two libraries for matrix products on a CPU.

PyTorch gives products in single precision to MKL, whose kernels leave half of the vector units of AMD's newer
processors idle; oneDNN, which is in the same wheel, uses them all, and is twice as fast there (docs/decisions.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbuild.processor import amd_family
from attnbuild.step_gradients.weights import multiplied_by_step

__all__ = ["Linear", "by_onednn", "linear", "packed"]

#: Multiplications below which a call of oneDNN costs more than it saves; with a packed weight, that is.
_WORTH_IT, _WORTH_IT_PACKED = 1 << 20, 5 << 16
#: Rows that weights are packed for; for one row alone oneDNN would pack otherwise, for all others so.
_PACKED_FOR = 64
#: Weights from which on MKL packs them anew at each call: 5 rows of 256 times 8000 x 256 took 15 ms, and 2 by a packed
#: weight. As many rows as it was packed for are few enough for that to tell.
_LARGE = 1 << 19
#: AMD's family of processors.
_ZEN_5 = 26


class _Packed(NamedTuple):
    """A weight (M, K) in oneDNN's own layout, the bias that goes with it, and for how many rows it is the faster."""

    weight: Tensor
    bias: Tensor | None
    most_rows: float

    def serves(self, rows: Tensor) -> bool:
        """Whether a product of these rows is faster with it: asked before every one, of numbers alone."""
        return (
            rows.numel() * self.weight.shape[0] >= _WORTH_IT_PACKED
            and rows.numel() <= self.most_rows * self.weight.shape[1]
            and rows.dim() > 1
            and rows.dtype is torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
        )


class Linear(nn.Linear):
    """``torch.nn.Linear``: x W' + b, (..., in_features) -> (..., out_features)."""

    _packed: _Packed | None = None

    def forward(self, input: Tensor) -> Tensor:
        packed = self._packed
        if packed is not None and packed.serves(input):
            return _multiply(input, packed.weight, packed.bias)
        return linear(input, self.weight, self.bias)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """For a while in which weights neither change nor learn, hold a second copy of them in oneDNN's own layout.

    What a product of few rows costs is the reading of the weight: 2 to 3 times less so, at 5 rows. Packing takes
    about 1 ms for each million of weights.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and _can_be_packed(layer.weight)]
    try:
        for layer in layers:
            weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _PACKED_FOR)
            layer._packed = _Packed(weight, layer.bias, math.inf if _packing_is_faster() else _PACKED_FOR)
        yield
    finally:
        for layer in layers:
            layer._packed = None


def _can_be_packed(weight: Tensor) -> bool:
    here = weight.device.type == "cpu" and weight.dtype == torch.float32 and type(weight) is nn.Parameter
    worth_it = _packing_is_faster() or (_onednn_serves() and weight.numel() >= _LARGE)
    return here and worth_it and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows weight' + bias: (..., K), (M, K), (M,) -> (..., M)."""
    gathered = multiplied_by_step(rows, weight, bias)
    if gathered is not None:
        return gathered
    if by_onednn(rows, weight):
        if not torch.is_grad_enabled():
            return _multiply(rows, weight, bias)
        product: Tensor = _Product.apply(rows.flatten(0, -2), weight, bias)
        return product.view(*rows.shape[:-1], weight.shape[0])
    return F.linear(rows, weight, bias)


def by_onednn(rows: Tensor, weight: Tensor) -> bool:
    """Whether a product is one of those that oneDNN is faster at; subclasses of tensors have ways of their own."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and rows.dim() > 1
        and rows.numel() * weight.shape[0] >= _WORTH_IT
        and _onednn_is_faster()
        and type(rows) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@cache
def _onednn_is_faster() -> bool:
    """From Zen 5 on, whose vector units have 512 bits; what decides is the machine alone, so that runs repeat.

    On Zen 4, which halves such vectors, MKL is as fast, and oneDNN keeps twice the memory for its kernels.
    """
    return _packing_is_faster() and amd_family() >= _ZEN_5


@cache
def _packing_is_faster() -> bool:
    """For all weights and any number of rows: on AMD's processors that know vectors of 512 bits."""
    return _onednn_serves() and torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def _onednn_serves() -> bool:
    """On AMD's processors, where it was measured."""
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return there and amd_family() > 0


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """left right' + bias: (..., K), (M, K), (M,) or None -> (..., M)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


class _Product(torch.autograd.Function):
    """The same of (N, K), with gradients, which are products by the same means and can be differentiated in turn."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.save_for_backward(left, right)
        return _multiply(left, right, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        left, right = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        wants_left, wants_right, wants_bias = ctx.needs_input_grad
        of_left = _Product.apply(gradient, right.t(), None) if wants_left else None
        of_right = _outer(gradient, left) if wants_right else None
        return of_left, of_right, gradient.sum(0) if wants_bias else None


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """left' right: (K, N), (K, M) -> (N, M); oneDNN is the faster, the fewer rows its result has."""
    if left.shape[1] < right.shape[1]:
        narrow: Tensor = _Product.apply(left.t(), right.t(), None)
        return narrow
    wide: Tensor = _Product.apply(right.t(), left.t(), None)
    return wide.t()
