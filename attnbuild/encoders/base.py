"""What every encoder is told and does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from attnbuild.attention.maker import AttentionMaker
from attnbuild.attention.place import PlaceKind
from attnbuild.embedding import Embedding
from attnbuild.inputs import ImageInput, Input, TextInput
from attnbuild.memory import Memory

__all__ = ["Encoder", "EncoderPlace"]


@dataclass(frozen=True)
class EncoderPlace:
    """What the builder tells an encoder.

    Attributes:
        source: what there is to read; of a modality that the encoder ``reads``.
        attention: builds the attention of one of the encoder's places.
    """

    source: Input
    attention: AttentionMaker

    @property
    def text(self) -> TextInput:
        """The source, for an encoder that reads text alone."""
        assert isinstance(self.source, TextInput)
        return self.source

    @property
    def image(self) -> ImageInput:
        """The source, for an encoder that reads images alone."""
        assert isinstance(self.source, ImageInput)
        return self.source


class Encoder(nn.Module):
    """Base of encoders.

    Attributes:
        places: the encoder's places for attention, by name.
        reads: the modalities that it can read: "text", "image".
        dim: width of the memory it makes.
        own_summary: whether the memory's summary is more than the mean of its states: a final state, a class token.
        embedding: of the source tokens, where it reads text.
    """

    places: ClassVar[Mapping[str, PlaceKind]] = {}
    reads: ClassVar[tuple[str, ...]] = ("text",)
    dim: int
    own_summary: bool = False
    embedding: Embedding | None

    def __init__(self) -> None:
        super().__init__()
        self.embedding = None

    @classmethod
    def places_for(cls, options: Mapping[str, Any]) -> Mapping[str, PlaceKind]:
        """The places that it has with these options, which may be wrong: they are checked elsewhere."""
        return cls.places

    def carried(self) -> dict[str, Any]:
        """Options that a checkpoint's config needs besides, so that nothing but the checkpoint is ever read."""
        return {}

    def forward(self, source: Tensor) -> Memory:
        """Token ids (B, S), padded at the right, or pixels (B, C, H, W) -> memory."""
        raise NotImplementedError
