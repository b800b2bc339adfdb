"""The residual connection around a sublayer, with the norm before or after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.errors import ConfigError

__all__ = ["Norm", "Residual", "require_width"]

Norm = Literal["pre", "post"]


class Residual(nn.Module):
    """pre: x + f(norm(x)) (Xiong et al. 2020); post: norm(x + f(x)) (Vaswani et al. 2017, 3.1).

    Args:
        dim: width of the states.
        norm: where the layer norm stands.
        dropout: probability of dropping a channel of f's output.
        reads_input: whether f depends on x; a norm before an f that does not would never learn.
    """

    def __init__(self, dim: int, *, norm: Norm, dropout: float, reads_input: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if reads_input or norm == "post" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm == "pre"

    def forward(self, states: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        if self.norm_first:
            return states + self.dropout(sublayer(self.norm(states)))
        return self.norm(states + self.dropout(sublayer(states)))


def require_width(attention: AttentionBlock, dim: int) -> AttentionBlock:
    """The attention itself, if its output fits the residual.

    Raises:
        ConfigError: it has another width, since its values are not projected.
    """
    if attention.out_dim != dim:
        raise ConfigError(
            f"without projections the output keeps the memory's width {attention.out_dim}, and the residual here is "
            f"{dim} wide: set equal dims, or projections=all",
            attention.place.name,
        )
    return attention
