"""Squeeze and excitation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import register

__all__ = ["SqueezeExcitation"]


@register("feature_attention", "se")
class SqueezeExcitation(FeatureAttention):
    """A gate for each channel: s = σ(W2 δ(W1 z)), z the mean over all cells (Hu et al. 2018, equations 2 to 4).

    Args:
        reduction: r; the hidden layer has C / r units, at least one. The paper takes 16, for maps of 64 channels
            and more.
    """

    def __init__(self, place: FeaturePlace, *, reduction: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__()
        hidden = max(1, place.channels // reduction)
        self.squeeze = nn.Linear(place.channels, hidden)
        self.excite = nn.Linear(hidden, place.channels)

    def forward(self, features: Tensor) -> Tensor:
        gate = self.excite(F.relu(self.squeeze(features.mean(dim=(2, 3))))).sigmoid()
        return features * gate[:, :, None, None]
