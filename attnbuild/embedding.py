"""Token embeddings with positions."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from attnbuild.dropout import Dropout
from attnbuild.errors import DataError

__all__ = ["Embedding", "Positions", "sinusoids", "sinusoids2d"]

#: Positions whose sinusoids are kept, since every step of a search asks for the next.
_KEPT = 1024

Positions = Literal["sinusoidal", "learned", "none"]


class Embedding(nn.Module):
    """Tokens to vectors: lookup, scaled, plus positions, dropout (Vaswani et al. 2017, 3.4 and 3.5).

    Args:
        vocabulary: number of token ids.
        dim: width of a vector.
        positions: sinusoidal (any length), learned (up to ``max_positions``) or none.
        max_positions: number of learned positions.
        scale: multiply the lookup by sqrt(dim), as the Transformer does.
        dropout: probability of dropping a channel.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        *,
        positions: Positions = "none",
        max_positions: int = 512,
        scale: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        # Of length about 1, so that tied to an output layer its logits start near N(0, 1).
        nn.init.normal_(self.tokens.weight, std=dim**-0.5)
        self.scale = math.sqrt(dim) if scale else 1.0
        self.positions = positions
        self._table: Tensor | None = None  # of the first sinusoids
        self.learned = nn.Embedding(max_positions, dim) if positions == "learned" else None
        if self.learned is not None:
            nn.init.normal_(self.learned.weight, std=dim**-0.5)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, first: int = 0) -> Tensor:
        """(B, N) -> (B, N, dim); ``first`` is the position of the first token.

        Raises:
            DataError: a sequence is longer than the learned positions.
        """
        vectors = self.tokens(tokens) * self.scale
        return self.dropout(self._add_positions(vectors, first))

    def _add_positions(self, vectors: Tensor, first: int) -> Tensor:
        if self.positions == "none":
            return vectors
        last = first + vectors.shape[1]
        if self.learned is None:
            return vectors + self._sinusoids(first, last, vectors)
        if last > self.learned.num_embeddings:
            raise DataError(
                f"a sequence of {last} tokens is longer than the {self.learned.num_embeddings} learned positions; "
                "raise max_positions, or use positions=sinusoidal"
            )
        return vectors + self.learned(torch.arange(first, last, device=vectors.device))

    def _sinusoids(self, first: int, last: int, like: Tensor) -> Tensor:
        """Those of a stretch of positions, (last - first, dim), of the same type."""
        if torch.compiler.is_compiling() or last > _KEPT:  # a compiled or exported model serves every length
            return sinusoids(torch.arange(first, last, device=like.device), like.shape[-1]).to(like.dtype)
        table = self._table
        if table is None or (table.device, table.dtype) != (like.device, like.dtype):
            table = sinusoids(torch.arange(_KEPT, device=like.device), like.shape[-1]).to(like.dtype)
            if type(table) is Tensor:  # not one of those that stand for others while costs are counted
                self._table = table
        return table[first:last]


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """sin and cos of position x frequency, interleaved (Vaswani et al. 2017, 3.5): (N,) -> (N, dim), fp32."""
    pairs = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float().unsqueeze(1) * torch.exp(pairs * (-math.log(10000.0) / max(dim, 1)))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]


def sinusoids2d(grid: tuple[int, int], dim: int, device: torch.device | None = None) -> Tensor:
    """Sinusoids of the row in the first half of the channels, of the column in the others: (H W, dim), fp32.

    The cells stand row by row.
    """
    height, width = grid
    rows = sinusoids(torch.arange(height, device=device), dim // 2)
    columns = sinusoids(torch.arange(width, device=device), dim - dim // 2)
    cells = [rows.unsqueeze(1).expand(-1, width, -1), columns.unsqueeze(0).expand(height, -1, -1)]
    return torch.cat(cells, dim=-1).flatten(0, 1)
