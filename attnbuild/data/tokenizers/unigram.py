"""Unigram language model over pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from annotated_types import Ge
from tokenizers import Tokenizer, decoders
from tokenizers.models import Unigram
from tokenizers.trainers import Trainer, UnigramTrainer

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import Trainable, normalizer, split_words
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["UnigramPieces"]


@register("tokenizer", "unigram")
class UnigramPieces(Trainable):
    """The likeliest pieces under a unigram model (Kudo 2018).

    A piece lies within a word, a number or a run of punctuation and may begin with the space before
    it. A character that the training data lacks is lost: it becomes <unk>. The library starts from the
    parts that different words share, so a word without such parts stays in single characters; and
    training twice may end in slightly different pieces: the cache and the run keep theirs.

    Args:
        place: what the builder knows.
        vocab_size: number of pieces, special tokens and all characters of the data included.
        joint: one vocabulary for source and target.
        lowercase: lower-case all text first.
    """

    def __init__(
        self,
        place: TokenizerPlace,
        *,
        vocab_size: Annotated[int, Ge(5)] = 4000,
        joint: bool = True,
        lowercase: bool = False,
    ) -> None:
        super().__init__(joint, lowercase)
        self.vocab_size = vocab_size

    def pipeline(self) -> Tokenizer:
        tokenizer = Tokenizer(Unigram())
        tokenizer.normalizer = normalizer(lowercase=self.lowercase, space=True)
        tokenizer.pre_tokenizer = split_words()
        tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        return tokenizer

    def trainer(self) -> Trainer:
        return UnigramTrainer(
            vocab_size=self.vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            unk_token=SPECIAL_TOKENS[UNK],
            show_progress=False,
        )

    def train(self, lines: Iterable[str]) -> Vocabulary:
        try:
            return super().train(lines)
        except Exception as error:  # the library raises bare exceptions
            if "not large enough" not in str(error):
                raise
            raise ConfigError(
                f"{self.vocab_size} pieces cannot hold all characters of the data; raise it",
                "tokenizer.vocab_size",
            ) from error

    def size_hint(self) -> int:
        return self.vocab_size
