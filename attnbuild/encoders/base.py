"""What every encoder is told and does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from attnbuild.attention.maker import AttentionMaker
from attnbuild.attention.place import PlaceKind
from attnbuild.embedding import Embedding
from attnbuild.memory import Memory

__all__ = ["Encoder", "EncoderPlace"]


@dataclass(frozen=True)
class EncoderPlace:
    """What the builder tells an encoder.

    Attributes:
        vocabulary: number of source token ids.
        pad_id: the id of padding.
        attention: builds the attention of one of the encoder's places.
    """

    vocabulary: int
    pad_id: int
    attention: AttentionMaker


class Encoder(nn.Module):
    """Base of encoders.

    Attributes:
        places: the encoder's places for attention, by name.
        dim: width of the memory it makes.
        embedding: of the source tokens.
    """

    places: ClassVar[Mapping[str, PlaceKind]] = {}
    dim: int
    embedding: Embedding

    def forward(self, source: Tensor) -> Memory:
        """Token ids (B, S), padded at the right -> memory."""
        raise NotImplementedError
