"""Efficient channel attention."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.errors import ConfigError
from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import register

__all__ = ["EfficientChannelAttention"]


@register("feature_attention", "eca")
class EfficientChannelAttention(FeatureAttention):
    """A gate for each channel from its k neighbours: ω = σ(C1D_k(y)), y the mean over all cells (Wang et al. 2020).

    Equations 8 and 9 there. k follows the number of channels, equation 12 with γ = 2 and b = 1:
    k = |log2(C) / 2 + 1 / 2|, cut to a whole number and, where that is even, one more, as in the authors' code.

    Args:
        kernel: k, odd; null: by that formula.
    """

    def __init__(self, place: FeaturePlace, *, kernel: Annotated[int, Ge(1)] | None = None) -> None:
        super().__init__()
        if kernel is not None and kernel % 2 == 0:
            raise ConfigError(
                f"{kernel} is even: a kernel has a middle, so choose {kernel - 1} or {kernel + 1}", "kernel"
            )
        kernel = kernel or _adaptive_kernel(place.channels)
        self.neighbours = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        described = features.mean(dim=(2, 3)).unsqueeze(1)
        gate = self.neighbours(described).squeeze(1).sigmoid()
        return features * gate[:, :, None, None]


def _adaptive_kernel(channels: int) -> int:
    nearest = int(abs(math.log2(channels) / 2 + 1 / 2))
    return nearest if nearest % 2 else nearest + 1
