"""What every wiring of a recurrent decoder says and does."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from attnbuild.memory import Memory

__all__ = ["Wiring"]


class Wiring(nn.Module):
    """When a recurrent decoder asks its attention, what enters the cells and what is read out.

    A wiring is built with the width of the states ``dim``, that of the context ``context``, and the decoder's
    options ``input_feeding`` and ``dropout``.

    Attributes:
        fed_width: width of what a step feeds to the next one.
        never_tied: why the output layer may not share a matrix with the embedding; None where it may.
    """

    fed_width: int = 0
    never_tied: str | None = None

    def __init__(self, dim: int, context: int, *, input_feeding: bool, dropout: float) -> None:
        super().__init__()

    @classmethod
    def width(cls, dim: int, context: int, input_feeding: bool) -> int:
        """Width of what joins the embedded word at the cells; asked before the wiring is built."""
        raise NotImplementedError

    def gist(self, memory: Memory) -> Tensor:
        """What the initial states are made from: (B, D)."""
        return memory.summary

    def step(
        self,
        word: Tensor,
        states: Tensor,
        fed: Tensor,
        attend: Callable[[Tensor], Tensor],
        cells: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """One step of every row; ``attend`` and ``cells`` are called once each.

        Args:
            word: (R, dim), embedded.
            states: (R, layers, dim), of the step before; the last layer's asks and is read.
            fed: (R, fed_width), what the step before fed; zeros at first.
            attend: a query (R, dim) -> its context (R, context).
            cells: an input (R, dim + width) -> the new states (R, layers, dim).

        Returns:
            What the output layer reads, (R, dim), and what is fed to the next step.
        """
        raise NotImplementedError
