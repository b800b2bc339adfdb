"""The residual connection around a sublayer, with the norm before or after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.dropout import Dropout
from attnbuild.errors import ConfigError

__all__ = ["DropPath", "Norm", "Residual", "require_width"]

Norm = Literal["pre", "post"]


class DropPath(nn.Module):
    """Stochastic depth: in training, x b / (1 - p) with b ~ Bernoulli(1 - p) for each example (Huang et al. 2016, 3).

    Scaled in training, where the paper scales in testing: the expectation is the same.

    Args:
        probability: p, of leaving a residual branch out.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def extra_repr(self) -> str:
        return f"probability={self.probability}"

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.probability == 0:
            return branch
        stays = 1 - self.probability
        kept = branch.new_empty(len(branch), *[1] * (branch.dim() - 1)).bernoulli_(stays)
        return branch * kept / stays


class Residual(nn.Module):
    """pre: x + f(norm(x)) (Xiong et al. 2020); post: norm(x + f(x)) (Vaswani et al. 2017, 3.1).

    Args:
        dim: width of the states.
        norm: where the layer norm stands.
        dropout: probability of dropping a channel of f's output.
        drop_path: probability of leaving f out for a whole example, in training.
        reads_input: whether f depends on x; a norm before an f that does not would never learn.
    """

    def __init__(
        self, dim: int, *, norm: Norm, dropout: float, drop_path: float = 0.0, reads_input: bool = True
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if reads_input or norm == "post" else nn.Identity()
        self.dropout, self.drop_path = Dropout(dropout), DropPath(drop_path)
        self.norm_first = norm == "pre"

    def forward(self, states: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        branch = sublayer(self.norm(states) if self.norm_first else states)
        if self.training:  # nothing is dropped in evaluation, and single steps are short enough to tell
            branch = self.drop_path(self.dropout(branch))
        return states + branch if self.norm_first else self.norm(states + branch)


def require_width(attention: AttentionBlock, dim: int) -> AttentionBlock:
    """The attention itself, if its output fits the residual.

    Raises:
        ConfigError: it has another width, since its values are not projected.
    """
    if attention.out_dim != dim:
        # A core that reads no query has no use for projections.
        way = "projections=all, or " if attention.core.reads_query else ""
        part = attention.place.name.partition(".")[0]
        raise ConfigError(
            f"without projections the output keeps the memory's width {attention.out_dim}, and the residual here is "
            f"{dim} wide: set {way}{part}.dim={attention.out_dim}",
            f"{attention.spec.path}.projections",
        )
    return attention
