"""Linear maps, by the faster of PyTorch's two libraries for matrix products on a CPU.

PyTorch gives products in single precision to MKL, whose kernels leave half of the vector units of AMD's processors
idle; oneDNN, which is in the same wheel, uses them all, and is twice as fast there (docs/decisions.md).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "by_onednn", "linear"]

#: Multiplications below which a call of oneDNN costs more than it saves.
_WORTH_IT = 1 << 20


class Linear(nn.Linear):
    """``torch.nn.Linear``: x W' + b, (..., in_features) -> (..., out_features)."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows weight' + bias: (..., K), (M, K), (M,) -> (..., M)."""
    if by_onednn(rows, weight):
        multiply = _Product.apply if torch.is_grad_enabled() else _multiply
        product: Tensor = multiply(rows.flatten(0, -2), weight, bias)
        return product.view(*rows.shape[:-1], len(weight))
    return F.linear(rows, weight, bias)


def by_onednn(rows: Tensor, weight: Tensor) -> bool:
    """Whether a product is one of those that oneDNN is faster at; subclasses of tensors have ways of their own."""
    return (
        rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and rows.dim() > 1
        and rows.numel() * len(weight) >= _WORTH_IT
        and _onednn_is_faster()
        and type(rows) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@cache
def _onednn_is_faster() -> bool:
    """On AMD's processors with vectors of 512 bits; what decides is the machine alone, so that runs repeat."""
    there = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512" and _made_by_amd()


def _made_by_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """left right' + bias: (N, K), (M, K), (M,) or None -> (N, M)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


class _Product(torch.autograd.Function):
    """The same with gradients, which are products by the same means and can be differentiated in turn."""

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
