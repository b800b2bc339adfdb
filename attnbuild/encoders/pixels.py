"""Pixels as encoders like them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Normalise"]


class Normalise(nn.Module):
    """(x - mean) / std for each channel, of x in [0, 1]; pixels of uint8 are divided by 255 first.

    Mean and standard deviation are stored with the weights, which were trained on what they gave.

    Args:
        mean: of each channel, in [0, 1].
        std: of each channel, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or float in [0, 1], (B, C, H, W) -> (B, C, H, W), of the dtype of the mean."""
        scaled = pixels.to(self.mean.dtype)
        if pixels.dtype == torch.uint8:
            scaled = scaled / 255
        return (scaled - self.mean) / self.std
