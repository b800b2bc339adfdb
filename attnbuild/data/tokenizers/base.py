"""What every kind of tokenizer is before training, and the pieces that several kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.trainers import Trainer

from attnbuild.data.cache import content_hash
from attnbuild.data.tokenizers.vocabulary import Vocabulary

__all__ = ["BYTES", "Trainable", "normalizer", "split_words"]

#: A word, number or run of punctuation, with the space before it; any other white space alone.
_WORD = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s"

#: The 256 printable stand-ins for bytes: with them in the vocabulary nothing is unknown.
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


class Trainable(ABC):
    """A kind of tokenizer with its options, ready to be trained. Its attributes are its options.

    Args:
        joint: one vocabulary for source and target.
        lowercase: lower-case all text first.
    """

    def __init__(self, joint: bool, lowercase: bool) -> None:
        self.joint = joint
        self.lowercase = lowercase

    @abstractmethod
    def pipeline(self) -> Tokenizer:
        """The untrained tokenizer."""

    @abstractmethod
    def trainer(self) -> Trainer:
        """What trains it."""

    @abstractmethod
    def size_hint(self) -> int:
        """Number of ids that a vocabulary may have, known before training."""

    def train(self, lines: Iterable[str]) -> Vocabulary:
        """The vocabulary of these lines, which are read once."""
        tokenizer = self.pipeline()
        tokenizer.train_from_iterator(iter(lines), self.trainer())
        return Vocabulary(tokenizer.to_str())

    def fingerprint(self) -> str:
        """Hash of the kind, its options and how it cuts text."""
        return content_hash(type(self).__name__, repr(sorted(vars(self).items())), self.pipeline().to_str())


def normalizer(*, lowercase: bool, space: bool) -> normalizers.Normalizer:
    """Lower-casing if asked, and a space in front if asked, so that a word is the same at the start."""
    steps: list[normalizers.Normalizer] = []
    if lowercase:
        steps.append(normalizers.Lowercase())
    if space:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence(steps)


def split_words() -> pre_tokenizers.PreTokenizer:
    """Splits into words, numbers and punctuation, each with the space before it; nothing is lost."""
    return pre_tokenizers.Split(Regex(_WORD), behavior="isolated")
