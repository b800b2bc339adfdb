"""UTF-8 bytes."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer, Trainer

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import BYTES, Trainable, normalizer
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS
from attnbuild.registry import register

__all__ = ["Bytes"]


@register("tokenizer", "byte")
class Bytes(Trainable):
    """UTF-8 bytes (Xue et al. 2022, ByT5): no vocabulary to learn, nothing unknown, long sequences.

    Args:
        place: what the builder knows.
        lowercase: lower-case all text first.
    """

    def __init__(self, place: TokenizerPlace, *, lowercase: bool = False) -> None:
        # There is but one vocabulary of bytes, so source and target share it.
        super().__init__(joint=True, lowercase=lowercase)

    def pipeline(self) -> Tokenizer:
        tokenizer = Tokenizer(BPE())
        tokenizer.normalizer = normalizer(lowercase=self.lowercase, space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def trainer(self) -> Trainer:
        # A size that the alphabet fills leaves no room for merges.
        return BpeTrainer(
            vocab_size=self.size_hint(),
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=BYTES,
            show_progress=False,
        )

    def size_hint(self) -> int:
        return len(SPECIAL_TOKENS) + len(BYTES)
