"""The convolutional block attention module."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.errors import ConfigError
from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import register

__all__ = ["CBAM"]


@register("feature_attention", "cbam")
class CBAM(FeatureAttention):
    """A gate for each channel, then one for each cell: F' = Mc(F) F, F'' = Ms(F') F' (Woo et al. 2018, equation 1).

    Mc(F) = σ(MLP(avg F) + MLP(max F)) over all cells, with one MLP for both (equation 2);
    Ms(F) = σ(f([avg F; max F])) over the channels, f a convolution (equation 3).

    Args:
        reduction: r; the MLP's hidden layer has C / r units, at least one. The paper takes 16, for maps of 64
            channels and more.
        kernel: height and width of f, odd; the paper takes 7.
    """

    def __init__(
        self,
        place: FeaturePlace,
        *,
        reduction: Annotated[int, Ge(1)] = 8,
        kernel: Annotated[int, Ge(1)] = 7,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ConfigError(
                f"{kernel} is even: a kernel has a middle, so choose {kernel - 1} or {kernel + 1}", "kernel"
            )
        hidden = max(1, place.channels // reduction)
        self.squeeze = nn.Linear(place.channels, hidden)
        self.excite = nn.Linear(hidden, place.channels)
        self.cells = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        # By a pooling: in bf16 on CPU, amax and its backward take ten times as long.
        average, largest = features.mean(dim=(2, 3)), F.adaptive_max_pool2d(features, 1).flatten(1)
        gate = (self._rate(average) + self._rate(largest)).sigmoid()
        features = features * gate[:, :, None, None]
        described = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return features * self.cells(described).sigmoid()

    def _rate(self, described: Tensor) -> Tensor:
        """The MLP: (B, C) -> (B, C)."""
        return self.excite(F.relu(self.squeeze(described)))
