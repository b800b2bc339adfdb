"""Local attention that predicts where to look."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.local import Local
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.precision import full_precision
from attnbuild.attention.products import by_head
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["LocalP"]


@register("core", "local_p")
class LocalP(Local):
    """Query h looks around p = S sigmoid(v' tanh(W h)), S real keys (Luong et al. 2015, equations 9 and 10, "local-p").

    The weighting is over the integers of [p - window, p + window] from 0 to S - 1; the weights are then
    multiplied by exp(-(j - p)^2 / (2 (window / 2)^2)) and not normalised again. p learns through that factor
    alone. One W and v a head, W square. The scores of all keys are computed, so this saves no time.

    Args:
        window: how many positions to each side are seen; at least 1 here.
        dropout: probability of dropping a weight in training.
    """

    capabilities = Capabilities(
        self_attention=False,
        causal=False,
        weights="effective",
        reasons={
            "self_attention": "local-p predicts a place in a memory of known length S, a source sentence; "
            "of a sequence that is still being decoded, S is unknown",
        },
    )

    def __init__(
        self,
        place: CorePlace,
        *,
        window: Annotated[int, Ge(0)] = 10,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place, window=window, dropout=dropout)
        if window == 0:
            raise ConfigError(
                "local_p looks around a point between positions, and a window of 0 holds none of them: "
                "set it to 1 or more, or use local_m",
                f"{place.name}.window",
            )
        self.spread = window / 2
        self.hidden_weight = nn.Parameter(torch.empty(place.heads, place.query_dim, place.query_dim))
        self.vector = nn.Parameter(torch.empty(place.heads, place.query_dim, 1))
        for matrix in (*self.hidden_weight, *self.vector):
            nn.init.xavier_uniform_(matrix)

    def centre(self, query: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        # The products too: a step of bf16 in the share of S is several positions of a long memory.
        precision = torch.promote_types(query.dtype, torch.float32)
        with full_precision(query):
            hidden = torch.tanh(by_head(query.to(precision), self.hidden_weight.to(precision)))
            return lengths * torch.sigmoid(by_head(hidden, self.vector.to(precision)))

    def focus(self, distance: Tensor) -> Tensor:
        return torch.exp(-distance.square() / (2 * self.spread**2))
