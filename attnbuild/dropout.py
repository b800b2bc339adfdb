"""Dropout (Srivastava et al. 2014), with a quarter of the random numbers on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

#: What sixteen random bits can be.
_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``: in training, x m / (1 - p) with m ~ Bernoulli(1 - p) for each value.

    On a CPU drawing m is most of the work, so there four values share a draw of 64 bits, and p is a multiple of
    1 / 65,536, the nearest one.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(input)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        kept = _sixteen_bits(input.shape) >= dropped - _LEVELS // 2
        # Numbers first: PyTorch multiplies by bool many times as slowly as by numbers of the same type.
        return input * kept.to(input.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def _sixteen_bits(shape: torch.Size) -> Tensor:
    """Random values from all that int16 holds."""
    values = shape.numel()
    draws = torch.empty((values + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    return draws.view(torch.int16)[:values].view(shape)
