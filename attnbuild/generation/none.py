"""No search, for tasks whose answer takes no search."""

from __future__ import annotations

from torch import Tensor

from attnbuild.generation.base import Generated, Search, SearchPlace, StepDecoder
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["NoSearch"]


@register("search", "none")
class NoSearch(Search):
    """No search: the model gives its whole answer at once, as a classifier does."""

    def __init__(self, place: SearchPlace) -> None:
        super().__init__(place, max_length_ratio=0.0, max_length_extra=0)

    @property
    def description(self) -> str:
        return "none"

    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        raise TypeError("there is nothing to search: the decoder gives its whole answer at once")
