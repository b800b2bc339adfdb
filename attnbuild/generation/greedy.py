"""Greedy search: always the likeliest next token."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.generation.base import Generated, Search, SearchPlace, StepDecoder
from attnbuild.generation.rollout import roll_out
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["Greedy"]


@register("search", "greedy")
class Greedy(Search):
    """Always the likeliest next token. Fast; the score is the output's log-probability.

    Args:
        max_length_ratio: longest output in tokens, as a multiple of the input's length.
        max_length_extra: tokens added to that.
    """

    def __init__(
        self,
        place: SearchPlace,
        *,
        max_length_ratio: Annotated[float, Ge(0)] = 2.0,
        max_length_extra: Annotated[int, Ge(0)] = 20,
    ) -> None:
        super().__init__(place, max_length_ratio=max_length_ratio, max_length_extra=max_length_extra)

    @property
    def description(self) -> str:
        return "greedy"

    @torch.no_grad()
    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        outputs = roll_out(decoder, memory, self.place, self.limits(memory), _likeliest)
        rows = zip(outputs.tokens[:, 0].tolist(), outputs.lengths[:, 0].tolist(), strict=True)
        return Generated([[tokens[:length]] for tokens, length in rows], outputs.log_probs.tolist())


def _likeliest(log_probs: Tensor, sentences: Tensor, step: int) -> Tensor:
    return log_probs.argmax(dim=-1)
