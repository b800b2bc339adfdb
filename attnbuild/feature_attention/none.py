"""No feature attention."""

from __future__ import annotations

from torch import Tensor

from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import register

__all__ = ["NoFeatureAttention"]


@register("feature_attention", "none")
class NoFeatureAttention(FeatureAttention):
    """The features as they are."""

    def __init__(self, place: FeaturePlace) -> None:
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features
