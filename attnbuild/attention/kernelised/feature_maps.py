"""What a kernel attention needs of its feature map: phi, and phi's gradient, a chunk at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

__all__ = ["FeatureMap"]


class FeatureMap(ABC):
    """phi, with weights w_ij = phi(q_i).phi(k_j) / sum_j phi(q_i).phi(k_j); F features, all at least 0.

    ``forward`` and ``backward`` see chunks that fit the cache, in the precision of the sums; ``plain`` is the
    naive form, differentiated by autograd, that weights and single steps are computed with.

    A map whose features grow like exponentials divides those of keys by 2^shift and multiplies those
    of queries by it, feature by feature: this cancels in the weights and nothing overflows.

    Attributes:
        positional: whether features depend on the position; where not, none are handed over.
        shifted: whether the map works with a shift.
    """

    positional: bool = False
    shifted: bool = False

    @abstractmethod
    def size(self, width: int) -> int:
        """How many features a query or key of this width has."""

    @abstractmethod
    def plain(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        """(B, H, N, D), (N,), (B, H, F) -> (B, H, N, F)."""

    @abstractmethod
    def forward(self, states: Tensor, positions: Tensor | None, shift: Tensor | None, is_query: bool) -> Tensor:
        """(rows, N, D), (N,), (rows, F) -> (rows, N, F), a fresh tensor that its caller may overwrite."""

    @abstractmethod
    def backward(
        self, states: Tensor, features: Tensor, gradient: Tensor, positions: Tensor | None, is_query: bool
    ) -> Tensor:
        """The gradient of the states, (rows, N, D), from that of ``features``; may overwrite both.

        The shift gets none: the weights do not depend on it.
        """

    def exponents(self, states: Tensor) -> Tensor:
        """(..., N, D) -> (..., N, F): log2 of a shifted map's features of keys before any shift; fresh."""
        raise NotImplementedError
