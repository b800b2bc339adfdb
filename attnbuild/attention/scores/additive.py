"""A small network of query and key."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.products import by_head, scored
from attnbuild.attention.scores.base import Score
from attnbuild.registry import register
from attnbuild.step_gradients.attention import rated_additively_by_step

__all__ = ["Additive"]

#: Precisions in which tanh may be made of the logistic function, whose difference of near numbers loses some.
_FOR_LOGISTIC = (torch.float32, torch.float64)


@register("score", "additive")
class Additive(Score):
    """v' tanh(W q + U k) (Bahdanau et al. 2015, appendix A.1.2), one v, W, U a head.

    Args:
        score_dim: width of the hidden layer; null = the key's width.
    """

    dot_like = False
    #: Numbers in the largest (B, H, n, S, D) block held at once; 16 Mi fp32 numbers are 64 MiB.
    block_size = 1 << 24

    def __init__(self, place: HeadPlace, *, score_dim: Annotated[int, Ge(1)] | None = None) -> None:
        super().__init__(place)
        hidden = score_dim or place.key_dim
        self.query_weight = nn.Parameter(torch.empty(place.heads, place.query_dim, hidden))
        self.key_weight = nn.Parameter(torch.empty(place.kv_heads, place.key_dim, hidden))
        self.vector = nn.Parameter(torch.empty(place.heads, hidden, 1))
        for matrix in (*self.query_weight, *self.key_weight, *self.vector):
            nn.init.xavier_uniform_(matrix)

    def query(self, query: Tensor) -> Tensor:
        return by_head(query, self.query_weight)

    def key(self, key: Tensor) -> Tensor:
        return by_head(key, self.key_weight)

    def rate(self, query: Tensor, key: Tensor) -> Tensor:
        """Block by block over the queries: the (B, H, N, S, D) tensor never exists as a whole."""
        if query.shape[2] == 1 and query.dtype in _FOR_LOGISTIC:
            gathered = rated_additively_by_step(query, key, self.vector)
            if gathered is not None:
                return gathered
        width = max(1, self.block_size // max(1, key.numel()))
        if query.shape[2] <= width:
            return self._rate_block(query, key)
        # Checkpointed, or autograd would keep every block until the backward pass.
        blocks = [
            checkpoint(self._rate_block, part, key, use_reentrant=False)
            if torch.is_grad_enabled()
            else self._rate_block(part, key)
            for part in query.split(width, dim=2)
        ]
        return torch.cat(blocks, dim=2)

    def _rate_block(self, query: Tensor, key: Tensor) -> Tensor:
        query, key = query.unsqueeze(3), key.unsqueeze(2)
        if query.device.type == "cpu" and query.dtype in _FOR_LOGISTIC:
            # tanh(x) = 2 s(2 x) - 1 with the logistic s, which PyTorch computes ten times as fast there as tanh.
            both = torch.add(2 * query, key, alpha=2)
            return scored(both.sigmoid_(), 2 * self.vector) - self.vector.sum(dim=1, keepdim=True)
        return scored((query + key).tanh_(), self.vector)
