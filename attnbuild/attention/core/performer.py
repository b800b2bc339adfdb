"""Performer: softmax attention estimated by positive orthogonal random features."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.core.base import Attended
from attnbuild.attention.kernelised.base import Kernelised, SummaryState
from attnbuild.attention.kernelised.feature_maps import FeatureMap
from attnbuild.attention.parts import CorePlace
from attnbuild.registry import register

__all__ = ["Performer", "PositiveFeatures", "draw_projection"]

LOG2_E = 1 / math.log(2)


class PositiveFeatures(FeatureMap):
    """phi_r(x) = exp(w_r.x - |x|^2 / 2) with x scaled by d^(-1/4), so that E phi(q).phi(k) = exp(q.k / sqrt(d)).

    What is constant over the features of one query cancels in its weights: its |q|^2 and its largest
    exponent (the paper's stabiliser), so a query's features are a softmax over them. A key's are divided by the
    largest of each feature, which the query's are multiplied by: this cancels too, so no epsilon is needed, and
    neither padding nor the future has any influence.

    Args:
        projection: w, (F, D).
    """

    shifted = True

    def __init__(self, projection: Tensor) -> None:
        self.projection = projection

    def size(self, width: int) -> int:
        return self.projection.shape[0]

    def exponents(self, states: Tensor) -> Tensor:
        scale = states.shape[-1] ** -0.5
        squares = states.square().sum(dim=-1, keepdim=True)
        return self._project(states).sub_(squares * (scale * LOG2_E / 2))

    def _project(self, states: Tensor) -> Tensor:
        return states @ (self.projection.to(states.dtype) * (states.shape[-1] ** -0.25 * LOG2_E)).T

    def plain(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        assert shift is not None
        exponents = self.exponents(states)
        if not is_query:
            return torch.exp2(exponents - shift.unsqueeze(-2))
        exponents = exponents + shift.unsqueeze(-2)
        return torch.exp2(exponents - exponents.detach().amax(dim=-1, keepdim=True))

    def forward(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        assert shift is not None
        if not is_query:
            return self.exponents(states).sub_(shift.unsqueeze(1)).exp2_()
        exponents = self._project(states).add_(shift.unsqueeze(1))
        return exponents.sub_(exponents.amax(dim=-1, keepdim=True)).exp2_()

    def backward(
        self, states: Tensor, features: Tensor, gradient: Tensor, positions: Tensor | None, is_query: bool
    ) -> Tensor:
        scale = states.shape[-1] ** -0.25
        of_exponents = gradient.mul_(features)
        result = of_exponents @ (self.projection.to(states.dtype) * scale)
        if not is_query:
            result.addcmul_(states, of_exponents.sum(dim=-1, keepdim=True), value=-(scale**2))
        return result


def draw_projection(features: int, width: int, key: str) -> Tensor:
    """Rows that are orthogonal in blocks of ``width``, each distributed as a standard Gaussian: (features, width).

    Choromanski et al. 2021, section 2.4. The signs that QR leaves to convention are made those of a uniformly
    distributed rotation; without that the first column always points one way, and the estimate is biased.

    Args:
        features: how many.
        width: of a query.
        key: what the draw is a function of; the same on every rank.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")

    blocks = []
    for _ in range(-(-features // width)):
        rotation, upper = torch.linalg.qr(gaussian(width, width))
        blocks.append((rotation * upper.diagonal().sign()).T)
    norms = gaussian(features, width).norm(dim=-1, keepdim=True)
    return torch.cat(blocks)[:features] * norms


@register("core", "performer")
class Performer(Kernelised):
    """FAVOR+: softmax attention by positive orthogonal random features (Choromanski et al. 2021, sections 2.2 to 2.4).

    The error shrinks with the root of the number of features, and grows with the norms of queries and keys.

    Args:
        features: random features a head; more estimate the softmax better.
        redraw_every: draw new features after so many batches in training, those of one accumulated update counted
            one by one; 0 = never. Evaluation never draws.
        seed: what the features are drawn from, beside the place and layer; equal on all ranks.
    """

    projection: Tensor
    training_steps: Tensor

    def __init__(
        self,
        place: CorePlace,
        *,
        features: Annotated[int, Ge(1)] = 256,
        redraw_every: Annotated[int, Ge(0)] = 0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(place)
        self.features, self.redraw_every, self.seed = features, redraw_every, seed
        # Saved with the checkpoint: a model is its weights and the features they were trained with.
        here = torch.empty(0)
        self.register_buffer("projection", self._draw(0).to(here))
        self.register_buffer("training_steps", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"features={self.features}, redraw_every={self.redraw_every}"

    def feature_map(self) -> FeatureMap:
        return PositiveFeatures(self.projection)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        self._count()
        return super().attend(query, key, value, key_padding_mask, need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> SummaryState:
        self._count()
        return super().remember(key, value, key_padding_mask)

    def _count(self) -> None:
        """Once in a training batch: every so many, new features."""
        if not (self.training and self.redraw_every and torch.is_grad_enabled()):
            return
        steps = int(self.training_steps)
        if steps and steps % self.redraw_every == 0:
            # A new tensor: a backward pass still to come needs the old one.
            self.projection = self._draw(steps // self.redraw_every).to(self.projection)
        self.training_steps += 1

    def _draw(self, draw: int) -> Tensor:
        return draw_projection(
            self.features, self.place.key_dim, f"{self.seed}/{self.place.name}/{self.place.layer}/{draw}"
        )
