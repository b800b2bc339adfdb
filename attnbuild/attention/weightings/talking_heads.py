"""Softmax between two mixtures of the heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.registry import register

__all__ = ["TalkingHeads"]


@register("weighting", "talking_heads")
class TalkingHeads(Softmax):
    """Scores are mixed across heads, then softmax, then weights are mixed (Shazeer et al. 2020, section 3).

    As many heads before, within and after the softmax. A key that a head may not see is left out after the
    first mixture. The mixtures start as the identity (ours), which is multi-head attention.
    """

    capabilities = Capabilities(weights="effective")

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        self.score_mixture = nn.Parameter(torch.eye(place.heads))
        self.weight_mixture = nn.Parameter(torch.eye(place.heads))

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        weights = super().forward(_mix(self.score_mixture, scores), allowed)
        return _mix(self.weight_mixture, weights)


def _mix(mixture: Tensor, rows: Tensor) -> Tensor:
    """(H, H), (B, H, N, S) -> (B, H, N, S): head g gives mixture[h, g] of itself to head h."""
    mixed = mixture.to(rows.dtype) @ rows.flatten(2)
    return mixed.view_as(rows)
