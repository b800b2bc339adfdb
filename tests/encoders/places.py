"""What encoders are told in tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import build_block
from attnbuild.attention.place import Place
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.inputs import ImageInput, TextInput
from attnbuild.registry import build


def image(height: int = 32, width: int = 32, channels: int = 3) -> ImageInput:
    return ImageInput(channels, height, width, mean=(0.5,) * channels, std=(0.25,) * channels)


def text(vocabulary: int = 12) -> TextInput:
    return TextInput(vocabulary, PAD)


def pixels(*shape: int) -> Tensor:
    """uint8, the same in every test."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class Maker:
    """Builds one preset at every place, as the model does with ``attention=``."""

    def __init__(self, preset: str = "multihead", **options: Any) -> None:
        self.spec = AttentionSpec.from_config({**load_preset(preset), **options})

    def __call__(
        self,
        name: str,
        *,
        dim: int,
        memory_dim: int | None = None,
        layer: int = 0,
        grid: tuple[int, int] | None = None,
        extra: int = 0,
    ) -> AttentionBlock:
        cells = grid is not None
        place = Place(f"encoder.{name}", dim, memory_dim or dim, layer, grid, extra, cells=cells)
        return build_block(self.spec, place)


def encoder(source: ImageInput | TextInput, preset: str | Maker = "multihead", **section: Any) -> Encoder:
    """With weights that are the same in every test, in evaluation mode."""
    torch.manual_seed(0)
    maker = Maker(preset) if isinstance(preset, str) else preset
    return build("encoder", EncoderPlace(source, maker), section, "encoder").eval()
