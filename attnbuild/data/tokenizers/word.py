"""Whole words."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from tokenizers.trainers import Trainer, WordLevelTrainer

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import Trainable, normalizer, split_words
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS, UNK
from attnbuild.registry import register

__all__ = ["Words"]


@register("tokenizer", "word")
class Words(Trainable):
    """Whole words, numbers and runs of punctuation, each with the space before it.

    The space makes detokenising exact, at the price of two entries for a word that is also seen
    without one, as after a bracket. A word outside the vocabulary is lost: it comes back as <unk>.

    Args:
        place: what the builder knows.
        vocab_size: the most frequent words that are kept, special tokens included.
        min_frequency: how often a word must occur to be kept.
        joint: one vocabulary for source and target.
        lowercase: lower-case all text first.
    """

    def __init__(
        self,
        place: TokenizerPlace,
        *,
        vocab_size: Annotated[int, Ge(5)] = 30000,
        min_frequency: Annotated[int, Ge(1)] = 1,
        joint: bool = True,
        lowercase: bool = False,
    ) -> None:
        super().__init__(joint, lowercase)
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def pipeline(self) -> Tokenizer:
        unknown = SPECIAL_TOKENS[UNK]
        tokenizer = Tokenizer(WordLevel(unk_token=unknown))
        tokenizer.normalizer = normalizer(lowercase=self.lowercase, space=True)
        tokenizer.pre_tokenizer = split_words()
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(unknown, f" {unknown}"), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return tokenizer

    def trainer(self) -> Trainer:
        return WordLevelTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(SPECIAL_TOKENS),
            show_progress=False,
        )

    def size_hint(self) -> int:
        return self.vocab_size
