"""BPE dropout: words cut up otherwise each time they are seen (Provilkov et al. 2020, arXiv:1910.13267)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS, Vocabulary

__all__ = ["MergeDropout"]

#: So many ways to cut a word are drawn, each when it is first asked for, and kept: most of the cost is in drawing.
_WAYS = 32

#: What a piece of the byte-level tokenizer begins with where a space stands before it.
_SPACE = "Ġ"


class MergeDropout:
    """Merges the bytes of each word anew, leaving out each merge with a probability (the paper's algorithm 1).

    What it makes of a row depends on the row and the draw alone, so that a resumed run sees the same.

    Args:
        vocabulary: of a byte-pair encoding.
        probability: of leaving a merge out, each time that it could be made.
        longest: tokens that a row may have; one that would have more stays as it is.
    """

    def __init__(self, vocabulary: Vocabulary, probability: float, longest: int) -> None:
        model = json.loads(vocabulary.to_json())["model"]
        self.ids: dict[str, int] = model["vocab"]
        self.pieces = sorted(self.ids, key=self.ids.__getitem__)
        self.probability, self.longest = probability, longest
        self.merges: dict[tuple[int, int], tuple[int, int]] = {}  # a pair: its rank, and what it becomes
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            self.merges[self.ids[left], self.ids[right]] = rank, self.ids[left + right]
        starts = (piece in SPECIAL_TOKENS or piece.startswith(_SPACE) for piece in self.pieces)
        self.starts = np.fromiter(starts, bool)
        self._known: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def __call__(self, row: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Tokens (length,) of the same text."""
        words = list(self._words(row))
        ways = draw.integers(_WAYS, size=len(words)).tolist()
        cut = [token for word, way in zip(words, ways, strict=True) for token in self._cut(word, way)]
        return np.array(cut, row.dtype) if len(cut) <= self.longest else row

    def _words(self, row: np.ndarray) -> Iterator[tuple[int, ...]]:
        """From a space to the next one, or a special token: no merge goes beyond."""
        bounds = np.flatnonzero(self.starts[row]).tolist()
        tokens = row.tolist()
        for start, end in zip([0, *bounds], [*bounds, len(tokens)], strict=True):
            if end > start:
                yield tuple(tokens[start:end])

    def _cut(self, word: tuple[int, ...], way: int) -> list[int]:
        known = self._known.get((word, way))
        if known is None:
            known = self._known[word, way] = self._merged(word, random.Random(repr((word, way))))
        return known

    def _merged(self, word: Sequence[int], dice: random.Random) -> list[int]:
        if word[0] < len(SPECIAL_TOKENS):
            return list(word)
        tokens = [self.ids[character] for piece in word for character in self.pieces[piece]]
        while True:
            possible = [
                (self.merges[pair], place)
                for place, pair in enumerate(pairwise(tokens))
                if pair in self.merges and dice.random() >= self.probability
            ]
            if not possible:
                return tokens
            (_, merged), place = min(possible)
            tokens[place : place + 2] = [merged]
