"""No search, for tasks whose answer takes no search."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.generation.base import Generated, Search, SearchPlace, StepDecoder
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["NoSearch"]


@register("search", "none")
class NoSearch(Search):
    """No search: the model gives its whole answer at once, as a classifier does.

    Its options have no effect. Tasks set them for whichever search is chosen, and one that needs a search says so
    itself.

    Args:
        max_length_ratio: without effect.
        max_length_extra: without effect.
    """

    def __init__(
        self,
        place: SearchPlace,
        *,
        max_length_ratio: Annotated[float, Ge(0)] = 0.0,
        max_length_extra: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(place, max_length_ratio=max_length_ratio, max_length_extra=max_length_extra)

    @property
    def description(self) -> str:
        return "none"

    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        raise TypeError("there is nothing to search: the decoder gives its whole answer at once")
