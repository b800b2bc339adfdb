"""Linear attention: phi(x) = elu(x) + 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attnbuild.attention.kernelised.base import Kernelised
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.registry import register

__all__ = ["EluPlusOne", "Linear"]

LOG2_E = 1 / math.log(2)


class EluPlusOne(FeatureMap):
    """phi(x) = elu(x) + 1: x + 1 where x > 0, exp(x) elsewhere; as many features as the key is wide."""

    def size(self, width: int) -> int:
        return width

    def plain(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        # Not elu + 1: in single precision that rounds exp(x) away below -16.
        return torch.where(states > 0, states + 1, states.clamp(max=0).exp())

    def forward(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        # exp2 is several times as fast as exp and elu on a CPU.
        below = states.clamp(max=0).mul_(LOG2_E).exp2_()
        return below.add_(states.clamp(min=0))

    def backward(
        self, states: Tensor, features: Tensor, gradient: Tensor, positions: Tensor | None, is_query: bool
    ) -> Tensor:
        # The slope is 1 where phi = x + 1 > 1, and phi itself where phi = exp(x) <= 1.
        return gradient.mul_(features.clamp_(max=1))


@register("core", "linear")
class Linear(Kernelised):
    """Linear attention with phi(x) = elu(x) + 1 (Katharopoulos et al. 2020, equations 4 to 7; causal 9 to 12)."""

    def feature_map(self) -> FeatureMap:
        return EluPlusOne()
