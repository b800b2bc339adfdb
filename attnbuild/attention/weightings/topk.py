"""Softmax over the best keys alone."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.registry import register

__all__ = ["TopK"]


@register("weighting", "topk")
class TopK(Softmax):
    """Softmax over the k best allowed keys, 0 elsewhere (Zhao et al. 2019, "Explicit sparse transformer", 3).

    Exactly k keys, or all where fewer are allowed; of equal scores the earlier keys are kept (the paper
    keeps every key that equals the k-th). Gradients reach the kept scores only. The scores of all keys are
    computed, so this saves neither time nor memory.

    Args:
        k: how many keys keep a weight.
    """

    def __init__(self, place: HeadPlace, *, k: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__(place)
        self.k = k

    def extra_repr(self) -> str:
        return f"k={self.k}"

    def forward(self, scores: Tensor, allowed: Tensor | None) -> Tensor:
        keys = scores.shape[-1]
        if not torch.compiler.is_compiling() and self.k >= keys:  # an exported model meets any number of keys
            return super().forward(scores, allowed)
        rated = scores.detach() if allowed is None else scores.detach().masked_fill(~allowed, -torch.inf)
        threshold = rated.topk(torch.sym_min(self.k, keys), dim=-1).values[..., -1:]
        above, equal = rated > threshold, rated == threshold
        room = self.k - above.sum(dim=-1, keepdim=True, dtype=torch.int32)
        kept = above | (equal & (equal.cumsum(dim=-1, dtype=torch.int32) <= room))
        return super().forward(scores, kept if allowed is None else kept & allowed)
