"""Images: pixels of one size, decoded once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from attnbuild.data.sides.base import Side
from attnbuild.errors import DataError
from attnbuild.inputs import ImageInput

if TYPE_CHECKING:
    from attnbuild.data.corpus import Corpus
    from attnbuild.data.pictures import Picture

__all__ = ["ImageSide"]

_FILE = "image.json"

#: Unreadable images that are named.
_TOLD = 20

#: Training images that mean and standard deviation are taken from.
_SAMPLE = 4096


class ImageSide(Side):
    """An image as its pixels, (channels, size, size) uint8.

    Args:
        size: of the longer and the shorter side alike.
        channels: 1 (grey) or 3 (RGB).
        fit: how an image of another shape becomes square: crop (the middle), stretch, or pad.
        mean: of each channel over the training images, in [0, 1]; None until ``measure``.
        std: of each channel; None until ``measure``.
    """

    dtype = np.uint8

    def __init__(
        self,
        *,
        size: int,
        channels: Literal[1, 3],
        fit: Literal["crop", "stretch", "pad"],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.size, self.channels, self.fit = size, channels, fit
        self.mean, self.std = mean, std

    @classmethod
    def from_artifacts(cls, artifacts: dict[str, str]) -> ImageSide:
        """The side that ``artifacts`` kept."""
        return cls(**json.loads(artifacts[_FILE]))

    def measure(self, corpus: Corpus) -> None:
        """Take mean and standard deviation from the images of the training corpus."""
        chosen = np.linspace(0, len(corpus) - 1, min(len(corpus), _SAMPLE)).astype(int)
        sums, squares = np.zeros(self.channels), np.zeros(self.channels)
        for index in chosen.tolist():
            pixels = self.pixels(corpus.rows([index])[0][0]) / 255.0
            sums += pixels.mean(axis=(1, 2))
            squares += np.square(pixels).mean(axis=(1, 2))
        mean = sums / len(chosen)
        deviation = np.sqrt(np.maximum(squares / len(chosen) - mean**2, 0.0))
        self.mean = [round(float(value), 6) for value in mean]
        self.std = [round(float(max(value, 1e-3)), 6) for value in deviation]

    def input(self) -> ImageInput:
        """What an encoder is told."""
        assert self.mean is not None, "measure() comes first"
        assert self.std is not None
        return ImageInput(self.channels, self.size, self.size, tuple(self.mean), tuple(self.std))

    def pixels(self, stored: np.ndarray) -> np.ndarray:
        """A stored array as (channels, size, size)."""
        return stored.reshape(self.channels, self.size, self.size)

    def fingerprint(self) -> str:
        return f"image {self.size} {self.channels} {self.fit}"

    def artifacts(self) -> dict[str, str]:
        return {_FILE: json.dumps(vars(self))}

    def encode(self, values: Sequence[Picture]) -> list[np.ndarray]:
        stored, unread = [], []
        for picture in values:
            try:
                stored.append(picture.load(self.size, self.channels, self.fit).reshape(-1))
            except DataError as error:
                unread.append(str(error))
        if unread:  # several, so that they can be mended at once
            more = f"\nand {len(unread) - _TOLD} more" if len(unread) > _TOLD else ""
            raise DataError("\n".join(unread[:_TOLD]) + more)
        return stored

    def text(self, value: Picture) -> str:
        return value.name

    def width(self, stored: np.ndarray) -> int:
        """1: what images cost is one and the same, so batches count them by ``batch.rows``."""
        return 1

    def collate(self, rows: Sequence[np.ndarray], draw: np.random.Generator | None = None) -> Tensor:
        """(B, channels, size, size) uint8."""
        return torch.from_numpy(np.stack([self.pixels(row) for row in rows]))
