"""cosFormer: rectified features, reweighted by the cosine of the distance."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.kernelised.base import Kernelised
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import finest_dtype
from attnbuild.registry import register

__all__ = ["CosFormer", "Reweighted"]


class Reweighted(FeatureMap):
    """phi(x_i) = [relu(x) cos(pi i / 2M), relu(x) sin(pi i / 2M)]: twice as many features as the key is wide.

    Their product is relu(q_i).relu(k_j) cos(pi (i - j) / 2M), by Ptolemy's theorem.

    Args:
        max_len: M; positions are below it, where cosine and sine are not negative.
    """

    positional = True

    def __init__(self, max_len: int) -> None:
        self.max_len = max_len

    def size(self, width: int) -> int:
        return 2 * width

    def plain(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        cosine, sine = self._turn(positions, states)
        rectified = states.relu()
        return torch.cat([rectified * cosine, rectified * sine], dim=-1)

    def forward(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        return self.plain(states, positions, shift, is_query)

    def backward(
        self, states: Tensor, features: Tensor, gradient: Tensor, positions: Tensor | None, is_query: bool
    ) -> Tensor:
        cosine, sine = self._turn(positions, states)
        of_cosine, of_sine = gradient.chunk(2, dim=-1)
        return (of_cosine * cosine).addcmul_(of_sine, sine).mul_(states > 0)

    def _turn(self, positions: Tensor | None, states: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, (N, 1) each."""
        assert positions is not None
        angles = positions.to(finest_dtype(positions.device)).mul_(math.pi / (2 * self.max_len)).unsqueeze(-1)
        return angles.cos().to(states.dtype), angles.sin().to(states.dtype)


@register("core", "cosformer")
class CosFormer(Kernelised):
    """cosFormer: relu(q_i).relu(k_j) cos(pi (i - j) / 2M), normalised (Qin et al. 2022, equations 8 to 11).

    A query that shares no positive channel with any key it sees gets 0: its weights sum to 0, not 1.

    Args:
        max_len: M, and the longest sequence: weights fall to 0 at this distance.
    """

    capabilities = Capabilities(
        cross_attention=False,
        weights="effective",
        linear_memory=True,
        reasons={"cross_attention": "its weights fall with the distance of two places in one sequence"},
    )

    def __init__(self, place: CorePlace, *, max_len: Annotated[int, Ge(1)] = 512) -> None:
        super().__init__(place)
        self.max_len: int = max_len

    def extra_repr(self) -> str:
        return f"max_len={self.max_len}"

    def feature_map(self) -> FeatureMap:
        return Reweighted(self.max_len)
