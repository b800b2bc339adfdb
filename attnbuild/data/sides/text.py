"""Text: tokens of a sentence, or of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attnbuild.data.sides.base import Side
from attnbuild.data.tokenizers.merge_dropout import MergeDropout
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, Vocabulary
from attnbuild.inputs import TextInput

__all__ = ["TextSide", "pad_rows"]

#: A sentence, or a pair of sentences that are read as one, with an end of sentence between them.
Text = str | tuple[str, str]

#: Between the sentences of a pair, where a person reads or writes them.
PAIR_SEPARATOR = "\t"

#: Where run folders and checkpoints keep the tokenizer, if there is one.
TOKENIZER_FILE = "tokenizer.json"


class TextSide(Side):
    """A text as its tokens.

    Args:
        vocabulary: the tokenizer.
        begin: whether a row starts with ``BOS``, as what a decoder writes does.
        file: name of the tokenizer's file in run folders and checkpoints.
    """

    #: Cuts the words of a batch otherwise each time, in training; None leaves them as they were encoded.
    merge_dropout: MergeDropout | None = None

    def __init__(self, vocabulary: Vocabulary, *, begin: bool = False, file: str = TOKENIZER_FILE) -> None:
        self.vocabulary, self.begin, self.file = vocabulary, begin, file

    @property
    def outputs(self) -> int:
        """How many tokens a decoder may choose from."""
        return len(self.vocabulary)

    def input(self) -> TextInput:
        """What an encoder is told."""
        return TextInput(len(self.vocabulary), PAD)

    def fingerprint(self) -> str:
        return self.vocabulary.to_json()

    def artifacts(self) -> dict[str, str]:
        return {self.file: self.vocabulary.to_json()}

    def encode(self, values: Sequence[Text]) -> list[np.ndarray]:
        """Ids without special tokens but the ``EOS`` between the texts of a pair."""
        parts = [(value,) if isinstance(value, str) else value for value in values]
        ids = iter(self.vocabulary.encode([part for value in parts for part in value]))
        return [np.array(_join([next(ids) for _ in value]), np.int32) for value in parts]

    def text(self, value: Text) -> str:
        return value if isinstance(value, str) else PAIR_SEPARATOR.join(value)

    def labels(self, value: Text) -> list[str]:
        """A readable label for each token that ``collate`` makes of a value."""
        parts = (value,) if isinstance(value, str) else value
        return [label for part in parts for label in (*self.vocabulary.labels(part), *self.vocabulary.tokens([EOS]))]

    def width(self, stored: np.ndarray) -> int:
        return len(stored) + 1

    def collate(self, rows: Sequence[np.ndarray], draw: np.random.Generator | None = None) -> Tensor:
        """(B, N) int64: each row with ``EOS`` after it, padded at the right with ``PAD``."""
        if draw is not None and self.merge_dropout is not None:
            rows = [self.merge_dropout(row, draw) for row in rows]
        return pad_rows(rows, begin=self.begin)


def _join(parts: Sequence[list[int]]) -> list[int]:
    joined = list(parts[0])
    for part in parts[1:]:
        joined += [EOS, *part]
    return joined


def pad_rows(rows: Sequence[np.ndarray], *, begin: bool) -> Tensor:
    """Rows of ids, with ``BOS`` before each if asked and ``EOS`` after each, as one (rows, longest) int64 tensor."""
    start = int(begin)
    padded = np.full((len(rows), max(map(len, rows)) + start + 1), PAD, np.int64)
    padded[:, :start] = BOS
    for number, row in enumerate(rows):
        end = start + len(row)
        padded[number, start:end] = row
        padded[number, end] = EOS
    return torch.from_numpy(padded)
