"""What every feature attention is told and does."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["FeatureAttention", "FeaturePlace"]


@dataclass(frozen=True)
class FeaturePlace:
    """What the builder tells a feature attention.

    Attributes:
        channels: of the feature map.
    """

    channels: int


class FeatureAttention(nn.Module):
    """Base of feature attentions: a map is weighted, by channel, by cell or both, by what is in the map itself."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        raise NotImplementedError
