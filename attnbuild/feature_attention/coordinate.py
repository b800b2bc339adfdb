"""Coordinate attention."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.registry import register

__all__ = ["CoordinateAttention"]


@register("feature_attention", "coordinate")
class CoordinateAttention(FeatureAttention):
    """A gate for each row and one for each column: y_c(i, j) = x_c(i, j) g^h_c(i) g^w_c(j) (Hou et al. 2021, eq. 9).

    z^h averages each row and z^w each column (equations 4 and 5); f = δ(BN(F1 [z^h, z^w])) mixes the channels of both
    (equation 6; δ is hard swish, as in the authors' code); g^h = σ(F_h f^h) and g^w = σ(F_w f^w) (equations 7 and 8).

    Args:
        reduction: r; f has C / r channels, at least 8.
    """

    def __init__(self, place: FeaturePlace, *, reduction: Annotated[int, Ge(1)] = 32) -> None:
        super().__init__()
        hidden = max(8, place.channels // reduction)
        self.mix = nn.Conv1d(place.channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.rows = nn.Conv1d(hidden, place.channels, 1)
        self.columns = nn.Conv1d(hidden, place.channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        described = torch.cat([features.mean(dim=3), features.mean(dim=2)], dim=2)
        mixed = F.hardswish(self.norm(self.mix(described)))
        by_row, by_column = mixed.split([height, width], dim=2)
        rows, columns = self.rows(by_row).sigmoid(), self.columns(by_column).sigmoid()
        return features * rows.unsqueeze(3) * columns.unsqueeze(2)
