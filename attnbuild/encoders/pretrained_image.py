"""A pretrained model that reads images."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.data.hub import reading
from attnbuild.encoders.pixels import Normalise
from attnbuild.encoders.pretrained_files import ModelFiles
from attnbuild.errors import ConfigError
from attnbuild.inputs import ImageInput
from attnbuild.memory import Memory

__all__ = ["ImageReader"]

#: Of the images that models are trained on where their files do not say otherwise: ImageNet's.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageReader(nn.Module):
    """Pixels as the model wants them, and its tokens or feature map as cells."""

    def __init__(self, files: ModelFiles, source: ImageInput) -> None:
        super().__init__()
        self.model = files.model("image")
        self.config = files.to_carry()
        self.channels = int(getattr(files.config, "num_channels", 3))
        if source.channels not in (1, self.channels):
            raise ConfigError(
                f"{files.name!r} reads images of {self.channels} channels: set image.channels={self.channels}",
                "image.channels",
            )
        self.normalise = Normalise(*_statistics(files, self.channels))
        takes = inspect.signature(self.model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        shape = self._shape(files, source)
        self.width = shape[1] if len(shape) == 4 else shape[2]
        size = source.height, source.width
        self.grid = (shape[2], shape[3]) if len(shape) == 4 else _grid(size, shape[1], files.config)
        self.extra = 0 if len(shape) == 4 else shape[1] - self.grid[0] * self.grid[1]
        #: ConvNeXt normalises the mean of its last map by a layer of its own.
        self.normalises_mean = len(shape) == 4 and isinstance(getattr(self.model, "layernorm", None), nn.LayerNorm)
        self.own_summary = self.extra > 0 or self.normalises_mean

    def _shape(self, files: ModelFiles, source: ImageInput) -> tuple[int, ...]:
        """Of the model's output for one image: (1, tokens, width) or (1, width, height, width); found on no device."""
        with reading(files.name, "image.size"), torch.device("meta"), torch.no_grad():
            image = torch.empty(1, self.channels, source.height, source.width)
            return tuple(files.shape().eval()(pixel_values=image, **self.options).last_hidden_state.shape)

    def carried(self) -> dict[str, Any]:
        return self.config

    def forward(self, source: Tensor) -> Memory:
        """Pixels (B, C, H, W) -> memory."""
        pixels = self.normalise(source.expand(-1, self.channels, -1, -1))
        output = self.model(pixel_values=pixels, **self.options)
        states = output.last_hidden_state
        if states.dim() == 4:
            states = states.flatten(2).transpose(1, 2)
            summary = output.pooler_output.flatten(1) if self.normalises_mean else states.mean(dim=1)
            return Memory(states, None, summary, self.grid)
        cells = states[:, self.extra :]
        return Memory(cells, None, states[:, 0] if self.extra else cells.mean(dim=1), self.grid)


def _grid(size: tuple[int, int], tokens: int, config: Any) -> tuple[int, int]:
    """The cells of an image that so many tokens stand for; those of stages that merge them are fewer."""
    patch = getattr(config, "patch_size", 1)
    rows, columns = patch if isinstance(patch, list | tuple) else (patch, patch)
    height, width = size[0] // rows, size[1] // columns
    while height * width > tokens:
        height, width = -(-height // 2), -(-width // 2)
    return height, width


def _statistics(files: ModelFiles, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel that the model was trained with."""
    read = {} if files.unread or files.carried is not None else _processor(files)
    if not read.get("do_normalize", True):
        return [0.0] * channels, [1.0] * channels
    mean, std = read.get("image_mean") or _MEAN, read.get("image_std") or _STD
    return _of_channels(mean, channels), _of_channels(std, channels)


def _processor(files: ModelFiles) -> dict[str, Any]:
    """What the model's files say of its images; nothing where they do not."""
    from transformers.image_processing_base import ImageProcessingMixin

    assert files.path is not None
    try:
        return ImageProcessingMixin.get_image_processor_dict(files.path)[0]
    except OSError:  # no such file: the model comes without one
        return {}


def _of_channels(values: Any, channels: int) -> list[float]:
    """A value for each channel; one for all, or of other channels, is the mean of those given."""
    values = list(values) if isinstance(values, list | tuple) else [values]
    return [float(value) for value in values] if len(values) == channels else [sum(values) / len(values)] * channels
