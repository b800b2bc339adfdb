"""Single characters."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.trainers import Trainer, WordLevelTrainer

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import Trainable, normalizer
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS, UNK
from attnbuild.registry import register

__all__ = ["Characters"]


@register("tokenizer", "char")
class Characters(Trainable):
    """Single characters (Unicode code points). One outside the vocabulary is lost: it becomes <unk>.

    Args:
        place: what the builder knows.
        vocab_size: the most frequent characters that are kept, special tokens included.
        min_frequency: how often a character must occur to be kept.
        joint: one vocabulary for source and target.
        lowercase: lower-case all text first.
    """

    def __init__(
        self,
        place: TokenizerPlace,
        *,
        vocab_size: Annotated[int, Ge(5)] = 1000,
        min_frequency: Annotated[int, Ge(1)] = 1,
        joint: bool = True,
        lowercase: bool = False,
    ) -> None:
        super().__init__(joint, lowercase)
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def pipeline(self) -> Tokenizer:
        tokenizer = Tokenizer(WordLevel(unk_token=SPECIAL_TOKENS[UNK]))
        tokenizer.normalizer = normalizer(lowercase=self.lowercase, space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
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
