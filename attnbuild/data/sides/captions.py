"""Captions: several true descriptions of one input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers.vocabulary import EOS

__all__ = ["CaptionsSide"]


class CaptionsSide(TextSide):
    """Several sentences, of which a batch holds one: drawn anew in every epoch in training.

    They are stored one after the other, each with its ``EOS``. ``text`` has one a line.
    """

    def encode(self, values: Sequence[str | Sequence[str]]) -> list[np.ndarray]:
        parts = [_sentences(value) for value in values]
        ids = iter(self.vocabulary.encode([part for value in parts for part in value]))
        return [np.array([token for _ in value for token in (*next(ids), EOS)], np.int32) for value in parts]

    def text(self, value: str | Sequence[str]) -> str:
        return "\n".join(_sentences(value))

    def width(self, stored: np.ndarray) -> int:
        """Tokens of the longest caption."""
        return int(np.diff(_ends(stored), prepend=-1).max())

    def collate(self, rows: Sequence[np.ndarray], draw: np.random.Generator | None = None) -> Tensor:
        return super().collate([_one(row, draw) for row in rows], draw)


def _sentences(value: str | Sequence[str]) -> list[str]:
    """Without line breaks, which part captions from each other."""
    return [" ".join(caption.split()) for caption in ([value] if isinstance(value, str) else value)]


def _ends(stored: np.ndarray) -> np.ndarray:
    return np.flatnonzero(stored == EOS)


def _one(stored: np.ndarray, draw: np.random.Generator | None) -> np.ndarray:
    """The tokens of one of the captions, without its ``EOS``."""
    ends = _ends(stored)
    number = 0 if draw is None else int(draw.integers(len(ends)))
    return stored[0 if number == 0 else ends[number - 1] + 1 : ends[number]]
