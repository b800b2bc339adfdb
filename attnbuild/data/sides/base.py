"""What becomes of one side of the examples: a reader's values, then arrays in a corpus, then a tensor in a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

__all__ = ["Side"]


class Side(ABC):
    """The source or the target of examples.

    Attributes:
        dtype: of the arrays that are stored.
        checks: whether ``check`` is to see all values of a split before they are encoded.
    """

    dtype: ClassVar[type[np.generic]] = np.int32
    checks: ClassVar[bool] = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash or text of all that determines what ``encode`` gives."""

    @abstractmethod
    def artifacts(self) -> dict[str, str]:
        """File name -> text from which the side can be made again, without data."""

    def check(self, values: Iterable[Any]) -> None:
        """Look at all values of a split before they are encoded, for a side that ``checks``.

        Raises:
            DataError: some cannot be encoded; all of them are named.
        """
        raise NotImplementedError

    @abstractmethod
    def encode(self, values: Sequence[Any]) -> list[np.ndarray]:
        """A stored array of shape (length,) for each value.

        Raises:
            DataError: a value cannot be encoded; the message says where it stands.
        """

    @abstractmethod
    def text(self, value: Any) -> str:
        """A value as a person reads it; several references one a line."""

    @abstractmethod
    def width(self, stored: np.ndarray) -> int:
        """Tokens that a stored array takes in a batch."""

    @abstractmethod
    def collate(self, rows: Sequence[np.ndarray], draw: np.random.Generator | None) -> Tensor:
        """The tensor of a batch of stored arrays.

        Args:
            rows: stored arrays.
            draw: decides what is drawn anew in every epoch (one of several captions); None takes the first.
        """
