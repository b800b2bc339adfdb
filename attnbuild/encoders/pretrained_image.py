"""A pretrained model that reads images."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.data.hub import reading, reason_of
from attnbuild.encoders.pixels import Normalise
from attnbuild.encoders.pretrained_files import ModelFiles
from attnbuild.errors import AttnbuildError, ConfigError
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
        _require_pixels_alone(files, takes)
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        shape = self._shape(files, source)
        self.width = shape[1] if len(shape) == 4 else shape[2]
        size = source.height, source.width
        self.grid = (shape[2], shape[3]) if len(shape) == 4 else _grid(size, shape[1], files)
        self.extra = 0 if len(shape) == 4 else shape[1] - self.grid[0] * self.grid[1]
        #: ConvNeXt normalises the mean of its last map by a layer of its own.
        self.normalises_mean = len(shape) == 4 and isinstance(getattr(self.model, "layernorm", None), nn.LayerNorm)
        self.own_summary = self.extra > 0 or self.normalises_mean

    def _shape(self, files: ModelFiles, source: ImageInput) -> tuple[int, ...]:
        """Of the model's output for one image: (1, tokens, width) or (1, width, height, width); found on no device."""
        with reading(files.name, files.option), torch.device("meta"):
            model = files.shape().eval()
        try:
            with torch.device("meta"), torch.no_grad():
                image = torch.empty(1, self.channels, source.height, source.width)
                return tuple(model(pixel_values=image, **self.options).last_hidden_state.shape)
        except AttnbuildError:
            raise
        except Exception as error:  # whatever a model raises at a size that it was not made for
            raise ConfigError(_wrong_size(files, source, error), "image.size") from error

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


def _require_pixels_alone(files: ModelFiles, takes: Mapping[str, inspect.Parameter]) -> None:
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [name for name, one in takes.items() if one.default is one.empty and one.kind not in several]
    more = sorted({*needed} - {"pixel_values"})
    if more:
        raise ConfigError(
            f"{files.name!r} ({files.config.model_type}) asks for more than pixels: {', '.join(more)}", files.option
        )


def _wrong_size(files: ModelFiles, source: ImageInput, error: Exception) -> str:
    """What to do about a model that fails at the size of the images."""
    own = getattr(files.config, "image_size", None)
    own = own[0] if isinstance(own, list | tuple) and own else own
    advice = f"set image.size={own}, its own" if isinstance(own, int) and own != source.height else "choose another"
    size = f"{source.height} x {source.width} pixels"
    return f"{files.name!r} does not read images of {size} ({reason_of(error)}): {advice}"


def _grid(size: tuple[int, int], tokens: int, files: ModelFiles) -> tuple[int, int]:
    """The cells of an image of some size that so many tokens stand for, after those that stand for the whole of it.

    Raises:
        ConfigError: they are not one a cell, in order.
    """
    config = files.config
    patch = getattr(config, "patch_size", 1)
    rows, columns = patch if isinstance(patch, list | tuple) else (patch, patch)
    stages = getattr(config, "depths", None)
    merges = len(stages) - 1 if isinstance(stages, list | tuple) else 0
    # A class token; another to learn from a teacher (DeiT); registers (Darcet et al. 2024).
    extra = {0, 1, 2, 1 + int(getattr(config, "num_register_tokens", 0) or 0)}
    whole = (size[0] // rows, size[1] // columns)
    padded = (-(-size[0] // rows), -(-size[1] // columns))  # as models of several stages read the rest of an image
    shuffled = hasattr(config, "mask_ratio")  # masked autoencoders draw an order anew for each image, trained or not
    for height, width in (whole, padded):
        for _ in range(merges):
            height, width = -(-height // 2), -(-width // 2)
        if tokens - height * width in extra and not shuffled:
            return height, width
    raise ConfigError(
        f"{files.name!r} ({config.model_type}) gives no state for each part of an image in its place, as it drops, "
        "shuffles or adds some: choose a model that does, such as a ViT, a Swin or a ConvNeXt",
        files.option,
    )


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
