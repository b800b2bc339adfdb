"""The wiring of Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attnbuild.decoders.wirings.base import Wiring
from attnbuild.linear import Linear

__all__ = ["Bahdanau"]


class Bahdanau(Wiring):
    """c_i from s_(i-1), s_i = f(s_(i-1), y_(i-1), c_i), and a maxout layer over s_i, y_(i-1) and c_i (A.2.2).

    It reads the new state, as in equation 4; A.2.2 writes the last one there. Maxout is the larger of each
    pair of channels (Goodfellow et al. 2013).
    """

    def __init__(self, dim: int, context: int, *, input_feeding: bool, dropout: float) -> None:
        super().__init__(dim, context, input_feeding=input_feeding, dropout=dropout)
        self.project = Linear(2 * dim + context, 2 * dim)

    @classmethod
    def width(cls, dim: int, context: int, input_feeding: bool) -> int:
        return context

    def step(
        self,
        word: Tensor,
        states: Tensor,
        fed: Tensor,
        attend: Callable[[Tensor], Tensor],
        cells: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        context = attend(states[:, -1])
        states = cells(torch.cat([word, context], dim=-1))
        pairs = self.project(torch.cat([states[:, -1], word, context], dim=-1)).unflatten(-1, (-1, 2))
        return pairs.amax(dim=-1), fed
