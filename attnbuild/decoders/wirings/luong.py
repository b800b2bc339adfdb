"""The wiring of Luong et al. 2015, "Effective approaches to attention-based neural machine translation"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnbuild.decoders.wirings.base import Wiring
from attnbuild.linear import Linear

__all__ = ["Luong"]


class Luong(Wiring, nn.Sequential):
    """h_t first, then c_t from it, then the attentional state h~_t = tanh(W [c_t; h_t]) (equation 5).

    With input feeding h~_t enters the next step beside its word (section 3.3).
    """

    def __init__(self, dim: int, context: int, *, input_feeding: bool, dropout: float) -> None:
        # A sequence of layers, so that W keeps the name that checkpoints know it by.
        nn.Sequential.__init__(self, Linear(context + dim, dim, bias=False), nn.Tanh())
        self.fed_width = self.width(dim, context, input_feeding)

    @classmethod
    def width(cls, dim: int, context: int, input_feeding: bool) -> int:
        return dim if input_feeding else 0

    def step(
        self,
        word: Tensor,
        states: Tensor,
        fed: Tensor,
        attend: Callable[[Tensor], Tensor],
        cells: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        states = cells(torch.cat([word, fed], dim=-1))
        output = self(torch.cat([attend(states[:, -1]), states[:, -1]], dim=-1))
        return output, output if self.fed_width else fed
