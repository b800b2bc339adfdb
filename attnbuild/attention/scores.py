"""How a query rates a key.

A dot-like score is ``scale * query(q) . key(k)``; the fast backends and rotary positions build on
that form. Any other score rates the transformed pair itself. Keys are transformed once a sentence.

Shape letters: B batch, H heads, K key heads, N queries, S keys, D width.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnbuild.attention.place import HeadPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Additive", "Cosine", "Dot", "General", "ScaledDot", "Score"]


class Score(nn.Module):
    """Base of scores.

    Attributes:
        dot_like: the score is ``scale * query(q) . key(k)``.
        scale: the factor of a dot-like score.
    """

    dot_like: ClassVar[bool] = True
    scale: float = 1.0

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def query(self, query: Tensor) -> Tensor:
        """Transform queries, (B, H, N, D) -> (B, H, N, D')."""
        return query

    def key(self, key: Tensor) -> Tensor:
        """Transform keys, (B, K, S, D) -> (B, K, S, D')."""
        return key

    def rate(self, query: Tensor, key: Tensor) -> Tensor:
        """Scores of transformed queries and keys: (B, H, N, D'), (B, H, S, D') -> (B, H, N, S)."""
        return query @ key.transpose(-2, -1) * self.scale


def _require_equal_widths(place: HeadPlace, score: str) -> None:
    if place.query_dim != place.key_dim:
        raise ConfigError(
            f"score {score!r} multiplies query and key, so their widths must be equal; they are "
            f"{place.query_dim} and {place.key_dim}: set equal dims, or use score 'general' or projections 'all'",
            place.name,
        )


@register("score", "dot")
class Dot(Score):
    """q.k, unscaled (Luong et al. 2015, 3.1, "dot")."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        _require_equal_widths(place, "dot")


@register("score", "scaled_dot")
class ScaledDot(Score):
    """q.k / sqrt(d) (Vaswani et al. 2017, equation 1)."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        _require_equal_widths(place, "scaled_dot")
        self.scale = 1.0 / math.sqrt(place.key_dim)


@register("score", "general")
class General(Score):
    """q' W k (Luong et al. 2015, 3.1, "general"), one W a head."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        self.weight = nn.Parameter(torch.empty(place.heads, place.query_dim, place.key_dim))
        for matrix in self.weight:
            nn.init.xavier_uniform_(matrix)

    def query(self, query: Tensor) -> Tensor:
        return query @ self.weight


@register("score", "cosine")
class Cosine(Score):
    """t cos(q, k) with a learned temperature t per head (Graves et al. 2014, eq. 5-6; Liu et al. 2022, eq. 2).

    Args:
        temperature: the factor that training starts from; it stays below 100, as in Swin V2.
    """

    max_temperature = 100.0
    #: Norms below it count as it; fp16 has no room for torch's 1e-12, and a zero vector would give NaN.
    smallest_norm = 1e-6

    def __init__(self, place: HeadPlace, *, temperature: Annotated[float, Gt(0), Le(100)] = 10.0) -> None:
        super().__init__(place)
        _require_equal_widths(place, "cosine")
        # In log space the factor stays positive and its step is relative.
        self.log_temperature = nn.Parameter(torch.full((place.heads, 1, 1), math.log(temperature)))

    def query(self, query: Tensor) -> Tensor:
        temperature = self.log_temperature.clamp(max=math.log(self.max_temperature)).exp()
        return F.normalize(query, dim=-1, eps=self.smallest_norm) * temperature

    def key(self, key: Tensor) -> Tensor:
        return F.normalize(key, dim=-1, eps=self.smallest_norm)


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
        return query @ self.query_weight

    def key(self, key: Tensor) -> Tensor:
        return key @ self.key_weight

    def rate(self, query: Tensor, key: Tensor) -> Tensor:
        """Block by block over the queries: the (B, H, N, S, D) tensor never exists as a whole."""
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
        hidden = torch.tanh(query.unsqueeze(3) + key.unsqueeze(2))
        return (hidden @ self.vector.unsqueeze(1)).squeeze(-1)
