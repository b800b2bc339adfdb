"""What stands at the two ends of a model: text or images to read, tokens or labels to give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Ends", "ImageInput", "Input", "TextInput"]


@dataclass(frozen=True)
class TextInput:
    """Token ids (B, S), padded at the right.

    Attributes:
        vocabulary: number of token ids.
        pad_id: the id of padding.
    """

    modality: ClassVar[str] = "text"
    vocabulary: int
    pad_id: int


@dataclass(frozen=True)
class ImageInput:
    """Pixels (B, channels, height, width): uint8 as stored, or floats in [0, 1] after augmentation.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        height: in pixels.
        width: in pixels.
        mean: of each channel over the training images, in [0, 1].
        std: of each channel over the training images, above 0.
    """

    modality: ClassVar[str] = "image"
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


Input = TextInput | ImageInput


@dataclass(frozen=True)
class Ends:
    """What a model reads and what it gives.

    Attributes:
        source: what there is to read.
        outputs: number of target token ids, or of labels.
        writes: what the decoder is asked for, as decoders say in ``writes``: "text", "labels".
        shared_vocabulary: source and target use the same token ids.
    """

    source: Input
    outputs: int
    writes: str = "text"
    shared_vocabulary: bool = False
