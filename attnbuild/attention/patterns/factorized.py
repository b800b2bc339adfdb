"""Two sparse patterns that together reach every key, and three ways to share them out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.errors import ConfigError

__all__ = ["Factorize", "Factorized"]

Factorize = Literal["heads", "layers", "merged"]


class Factorized(Pattern):
    """Base of patterns factorised into a first and a second one (Child et al. 2019, 4.2 and 5.1).

    The paper's three ways to use both: some heads see the first and others the second (equation 7; here even
    heads the first, so that heads sharing a key head have both), layers take turns (equation 5; even layers
    the first), or every head sees both (equation 6).
    """

    sparse = True

    def __init__(self, place: HeadPlace, factorize: Factorize) -> None:
        super().__init__(place)
        if factorize == "heads" and place.heads == 1:
            raise ConfigError(
                "factorize='heads' gives its two patterns to different heads and there is one head; "
                "set heads=2 or more, or factorize=merged",
                f"{place.name}.factorize",
            )
        self.factorize = factorize
        self.takes_second = place.layer % 2 == 1

    def first(self, query: Tensor, key: Tensor) -> Tensor:
        """The first pattern: positions -> bool, broadcast."""
        raise NotImplementedError

    def second(self, query: Tensor, key: Tensor) -> Tensor:
        """The second pattern: positions -> bool, broadcast."""
        raise NotImplementedError

    def both_pieces(self) -> tuple[Piece, Piece]:
        """The first and the second pattern as pieces."""
        raise NotImplementedError

    def pieces(self) -> tuple[Piece, ...]:
        first, second = self.both_pieces()
        if self.factorize == "layers":
            return (second if self.takes_second else first,)
        if self.factorize == "merged":
            return (first, second)
        return (replace(first, heads=(0, 2)), replace(second, heads=(1, 2)))

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if self.factorize == "layers":
            return self.second(query, key) if self.takes_second else self.first(query, key)
        first, second = self.first(query, key), self.second(query, key)
        if self.factorize == "merged":
            return first | second
        even = head % 2 == 0
        return (even & first) | (~even & second)
