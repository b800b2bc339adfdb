"""Tokenizers: text to numbers and back. One kind a file, all over the ``tokenizers`` library."""

from attnbuild.data.tokenizers.base import Trainable
from attnbuild.data.tokenizers.training import train_vocabularies
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

__all__ = ["BOS", "EOS", "PAD", "UNK", "Trainable", "Vocabulary", "train_vocabularies"]
