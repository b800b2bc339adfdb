"""Local attention that moves on by one source position a step."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.local import Local
from attnbuild.attention.parts import CorePlace
from attnbuild.registry import register

__all__ = ["LocalM"]


@register("core", "local_m")
class LocalM(Local):
    """Query t looks at the keys |j - t| <= window, t counted from 0 (Luong et al. 2015, 3.2, "local-m").

    The weighting is over the window alone; there is no Gaussian. Beyond the end of the memory nothing is in
    the window, and the value is 0. The scores of all keys are computed, so this saves no time.

    Args:
        window: how many positions to each side are seen.
        dropout: probability of dropping a weight in training.
    """

    capabilities = Capabilities(
        self_attention=False,
        causal=False,
        reasons={
            "self_attention": "local-m takes position t of the target to position t of the source; within one "
            "sequence that is pattern=window"
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

    def centre(self, query: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        return positions.to(torch.promote_types(query.dtype, torch.float32)).view(1, 1, -1, 1)
