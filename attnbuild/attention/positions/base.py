"""How place enters an attention: rotations of query and key, or a bias on the scores."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.span import Span

__all__ = ["Position"]


SELF_ONLY = Capabilities(
    cross_attention=False,
    reasons={"cross_attention": "its positions compare places in one sequence, and query and key are of two"},
)


class Position(nn.Module):
    """Base of positions: by default nothing is added.

    Attributes:
        needs_dot_like: works only with scores that are a product of query and key.
        max_len: the most positions of a part that has an option of this name; None = any. The block refuses more.
    """

    capabilities: ClassVar[Capabilities] = SELF_ONLY
    needs_dot_like: ClassVar[bool] = False
    max_len: int | None = None

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    @property
    def has_bias(self) -> bool:
        """Whether it adds anything to scores."""
        return type(self).bias is not Position.bias

    @property
    def rotates(self) -> bool:
        """Whether it turns queries and keys."""
        return type(self).rotate is not Position.rotate

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        """Turn queries or keys by their positions: (B, H, N, D), (N,) -> (B, H, N, D)."""
        return states

    def rotated(self, states: Tensor, at: Span) -> Tensor:
        """``rotate`` at consecutive positions; they become a tensor only where something is turned."""
        if not self.rotates:
            return states
        return self.rotate(states, at.on(states.device))

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """What is added to the scores, broadcastable to (B, H, N, S); None = nothing.

        Positions and queries may come in groups: (B, H, groups, N, D), (groups, N) and (groups, S), for
        biases broadcastable to (B, H, groups, N, S).

        Args:
            query: (B, H, N, D), as the score transformed it, times the score's scale.
            query_positions: (N,).
            key_positions: (S,).
        """
        return None
