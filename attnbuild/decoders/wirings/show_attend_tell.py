"""The wiring of Xu et al. 2015, "Show, attend and tell: neural image caption generation with visual attention"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attnbuild.decoders.wirings.base import Wiring
from attnbuild.dropout import Dropout
from attnbuild.linear import Linear
from attnbuild.memory import Memory, masked_mean

__all__ = ["ShowAttendTell"]


class ShowAttendTell(Wiring):
    """z_t from h_(t-1), scaled by a gate, enters the cell; E y_(t-1) + L_h h_t + L_z z_t is read out (equation 7).

    The gate is the scalar beta_t = sigmoid(f_beta(h_(t-1))) of section 4.2.1. The initial states are made from the
    mean annotation vector (3.1.2), whatever the encoder's summary is. The authors' code drops channels of h_t
    before L_h, as is done here, and takes tanh of the sum in equation 7, which the paper and this do not.
    """

    # L_o E y of equation 7 can say which word follows which. E' E y, with one matrix for both, says first that a word
    # follows itself; captions of digits were then learnt but for which digits there are.
    never_tied = (
        "decoder.wiring=show_attend_tell adds the embedding of the last word to what the output layer reads, so that "
        "with one matrix for both each word calls for itself"
    )

    def __init__(self, dim: int, context: int, *, input_feeding: bool, dropout: float) -> None:
        super().__init__(dim, context, input_feeding=input_feeding, dropout=dropout)
        self.gate = Linear(dim, 1)
        self.hidden = Linear(dim, dim, bias=False)
        self.context = Linear(context, dim, bias=False)
        self.dropout = Dropout(dropout)

    @classmethod
    def width(cls, dim: int, context: int, input_feeding: bool) -> int:
        return context

    def gist(self, memory: Memory) -> Tensor:
        return masked_mean(memory.states, memory.key_padding_mask)

    def step(
        self,
        word: Tensor,
        states: Tensor,
        fed: Tensor,
        attend: Callable[[Tensor], Tensor],
        cells: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        before = states[:, -1]
        context = torch.sigmoid(self.gate(before)) * attend(before)
        hidden = cells(torch.cat([word, context], dim=-1))[:, -1]
        return word + self.hidden(self.dropout(hidden)) + self.context(context), fed
