"""A convolution along the length with one kernel a head, as small banded products: forward and backward.

A depthwise ``conv2d`` with a tall kernel runs far below the speed of a product on a CPU. Here L outputs are one
product of a band (L, L + W - 1), the kernel shifted by one each row, with the L + W - 1 inputs that they need.

Shape letters: B rows, H heads, K value heads, N positions, D width, W kernel, L outputs of a block, G blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbuild.attention.precision import full_precision

__all__ = ["convolve"]

_BLOCK = 64


def convolve(value: Tensor, kernel: Tensor) -> Tensor:
    """sum_t kernel[h, t] value[n + t - W // 2], zeros beyond the ends.

    Args:
        value: (B, K, N, D); K divides H.
        kernel: (H, W), W odd.

    Returns:
        (B, H, N, D).
    """
    output: Tensor = _Convolve.apply(value, kernel)
    return output


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(value, kernel)
        with full_precision(value):
            blocks, groups = _blocks(value, kernel.shape[1]), kernel.shape[0] // value.shape[1]
            bands = _bands(kernel.to(value.dtype))
            output = torch.stack([_product(band, blocks[head // groups]) for head, band in enumerate(bands)])
            return _whole(output, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        value, kernel = ctx.saved_tensors
        width, groups = kernel.shape[1], kernel.shape[0] // value.shape[1]
        with full_precision(value):
            asked = _blocks(gradient.to(value.dtype), width)
            # What a kernel spreads forward, its mirror image gathers back.
            bands = _bands(kernel.flip(1).to(value.dtype))
            of_value = torch.stack([_product(band, asked[head]) for head, band in enumerate(bands)])
            of_value = of_value.unflatten(0, (-1, groups)).sum(dim=1) if groups > 1 else of_value
            blocks, half = _blocks(value, width), width // 2
            of_bands = torch.stack(
                [
                    (asked[head][:, half : half + _BLOCK] @ blocks[head // groups].transpose(1, 2)).sum(
                        dim=0, dtype=torch.promote_types(value.dtype, torch.float32)
                    )
                    for head in range(kernel.shape[0])
                ]
            )
            return _whole(of_value, value), _diagonals(of_bands, width).sum(dim=1).to(kernel.dtype)


def _blocks(states: Tensor, width: int) -> Tensor:
    """(B, K, N, D) -> the inputs of each block, overlapping views, (K, G, L + W - 1, D)."""
    batch, heads, length, channels = states.shape
    half, rows = width // 2, _padded(length, width)
    # Rows stand one after the other in blocks; the last block reads on beyond its row.
    padded = states.new_zeros(heads, batch * rows + width - 1, channels)
    whole = padded[:, : batch * rows].unflatten(1, (batch, rows))
    whole[:, :, half : half + length] = states.transpose(0, 1)
    return padded.as_strided(
        (heads, batch * rows // _BLOCK, _BLOCK + width - 1, channels),
        (padded.stride(0), _BLOCK * channels, channels, 1),
    )


def _padded(length: int, width: int) -> int:
    """Positions of a row with room for half a kernel at both ends, filled up to blocks."""
    return -(-(length + width - 1) // _BLOCK) * _BLOCK


def _product(band: Tensor, blocks: Tensor) -> Tensor:
    """(L, L + W - 1), (G, L + W - 1, D) -> (G, L, D)."""
    return torch.bmm(band.expand(blocks.shape[0], -1, -1), blocks)


def _whole(blocks: Tensor, like: Tensor) -> Tensor:
    """(H, G, L, D) -> (B, H, N, D)."""
    batch, _, length, _ = like.shape
    return blocks.flatten(1, 2).unflatten(1, (batch, -1))[:, :, :length].transpose(0, 1)


def _bands(kernel: Tensor) -> Tensor:
    """(H, W) -> (H, L, L + W - 1), row i the kernel moved by i."""
    heads, width = kernel.shape
    bands = kernel.new_zeros(heads, _BLOCK, _BLOCK + width - 1)
    _diagonals(bands, width).copy_(kernel.unsqueeze(1).expand(-1, _BLOCK, -1))
    return bands


def _diagonals(bands: Tensor, width: int) -> Tensor:
    """The places of the kernel in its bands, a view (H, L, W)."""
    span = _BLOCK + width - 1
    return bands.as_strided((bands.shape[0], _BLOCK, width), (_BLOCK * span, span + 1, 1))
