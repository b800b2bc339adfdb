"""Byte-pair encoding: the most frequent pairs merge into pieces."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer, Trainer

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import BYTES, Trainable, normalizer, split_words
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS
from attnbuild.registry import register

__all__ = ["BytePairEncoding"]


@register("tokenizer", "bpe")
class BytePairEncoding(Trainable):
    """Byte-pair encoding over UTF-8 bytes (Sennrich et al. 2016; Radford et al. 2019). Loses nothing.

    A piece lies within a word, a number or a run of punctuation and may begin with the space before it.

    Args:
        place: what the builder knows.
        vocab_size: number of pieces, special tokens and the 256 bytes included.
        min_frequency: how often a pair must occur to become a piece.
        joint: one vocabulary for source and target.
        lowercase: lower-case all text first.
        dropout: probability of leaving a merge out, anew each time a sentence is trained on. It is the task that
            reads it: what is learnt here, and what is validated or predicted, does not depend on it.
    """

    def __init__(
        self,
        place: TokenizerPlace,
        *,
        vocab_size: Annotated[int, Ge(300)] = 4000,
        min_frequency: Annotated[int, Ge(1)] = 2,
        joint: bool = True,
        lowercase: bool = False,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(joint, lowercase)
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def pipeline(self) -> Tokenizer:
        tokenizer = Tokenizer(BPE())
        tokenizer.normalizer = normalizer(lowercase=self.lowercase, space=True)
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split_words(), to_bytes])
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
        return tokenizer

    def trainer(self) -> Trainer:
        return BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=BYTES,
            show_progress=False,
        )

    def size_hint(self) -> int:
        return self.vocab_size
