"""How scores become weights."""

from __future__ import annotations

from torch import Tensor, nn

from attnbuild.attention.place import HeadPlace

__all__ = ["Weighting"]


class Weighting(nn.Module):
    """Base of weightings."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        """Scores (B, H, N, S) and the keys allowed (broadcastable, None = all) -> weights (B, H, N, S).

        A row without any allowed key gives weights 0.
        """
        raise NotImplementedError
