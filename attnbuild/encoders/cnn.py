"""The convolutional encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval, Len
from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.dropout import Dropout
from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.encoders.pixels import Normalise
from attnbuild.errors import ConfigError
from attnbuild.feature_attention.base import FeatureAttention, FeaturePlace
from attnbuild.linear import Linear
from attnbuild.memory import Memory
from attnbuild.registry import build, register
from attnbuild.residual import DropPath

__all__ = ["CNNEncoder"]

_FEATURE_ATTENTION = "encoder.feature_attention"


@register("encoder", "cnn")
class CNNEncoder(Encoder):
    """A residual network: y = relu(F(x) + x), F two 3x3 convolutions, each with batch norm (He et al. 2016, 3).

    Each stage after the first halves height and width and doubles the channels; where that happens the way around F
    is a 1x1 convolution (option B there). The cells of the last map are the memory. With width 16 and blocks
    [n, n, n] it is the ResNet-(6n + 2) of section 4.2.

    Args:
        dim: width of the memory; another than the last stage's is made by a linear map of each cell.
        width: channels of the first stage.
        blocks: how many blocks each stage has.
        stem: pixels from one cell of the first stage to the next: 1 for images of about 32 pixels, 2 for 64 to 128;
            4 (a 7x7 convolution of stride 2, then a pooling, as in section 3.4) for 224.
        feature_attention: weighs what each F gives, before x is added: none, se, cbam, eca or coordinate; with
            options, {type: cbam, reduction: 4}.
        dropout: probability of dropping a channel of the memory, in training.
        drop_path: probability of leaving F out for a whole image, in training; rises evenly to this at the last block.
    """

    reads = ("image",)

    def __init__(
        self,
        place: EncoderPlace,
        *,
        dim: Annotated[int, Ge(1)] = 128,
        width: Annotated[int, Ge(1)] = 32,
        blocks: Annotated[list[Annotated[int, Ge(1)]], Len(1)] = [2, 2, 2],  # noqa: B006
        stem: Literal[1, 2, 4] = 1,
        feature_attention: str | dict[str, Any] = "none",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        drop_path: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        _require_size(place, stem, blocks)
        self.dim = dim
        self.normalise = Normalise(place.image.mean, place.image.std)
        self.stem = _stem(place.image.channels, width, stem)
        rise = drop_path / max(sum(blocks) - 1, 1)
        made: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                attention = _build_feature_attention(feature_attention, channels * stride)
                made.append(_Block(channels, channels * stride, stride, attention, rise * len(made)))
                channels *= stride
        self.blocks = nn.Sequential(*made)
        self.project = nn.Identity() if channels == dim else Linear(channels, dim)
        self.dropout = Dropout(dropout)
        _initialise(self)

    def forward(self, source: Tensor) -> Memory:
        # Channels last: convolutions on CPUs and tensor cores want a cell's channels side by side.
        features = self.blocks(self.stem(self.normalise(source).contiguous(memory_format=torch.channels_last)))
        states = self.dropout(self.project(features.flatten(2).transpose(1, 2)))
        return Memory(states, None, states.mean(dim=1), grid=(features.shape[2], features.shape[3]))


class _Block(nn.Module):
    """relu(attend(F(x)) + x); x goes through a 1x1 convolution where F changes its shape."""

    def __init__(
        self, channels: int, out_channels: int, stride: int, attention: FeatureAttention, drop_path: float
    ) -> None:
        super().__init__()
        self.first = _convolution(channels, out_channels, 3, stride)
        self.second = _convolution(out_channels, out_channels, 3)
        self.attention = attention
        self.drop_path = DropPath(drop_path)
        self.stride = stride
        self.shortcut = nn.Identity() if channels == out_channels else _convolution(channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        branch = self.attention(self.second(F.relu(self.first(features))))
        # The cells are left out before the 1x1 convolution, not by its stride: the same, but the backward of such a
        # stride has crashed in oneDNN (torch 2.13, channels last, 8 channels).
        around = features[:, :, :: self.stride, :: self.stride] if self.stride > 1 else features
        return F.relu(self.drop_path(branch) + self.shortcut(around))


def _convolution(channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps height and width but for its stride, and batch norm."""
    convolution = nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _stem(channels: int, width: int, stride: int) -> nn.Sequential:
    if stride < 4:
        return nn.Sequential(_convolution(channels, width, 3, stride), nn.ReLU())
    return nn.Sequential(_convolution(channels, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))


def _build_feature_attention(chosen: str | dict[str, Any], channels: int) -> FeatureAttention:
    """The part chosen, by name or with options; what is wrong is told at its path."""
    section = {"type": chosen} if isinstance(chosen, str) else chosen
    try:
        return build("feature_attention", FeaturePlace(channels), section, _FEATURE_ATTENTION)
    except ConfigError as error:
        raise ConfigError([replace(problem, path=_path(problem.path, chosen)) for problem in error.problems]) from None


def _path(path: str, chosen: str | dict[str, Any]) -> str:
    """The whole path of a problem that a part told by the name of its option; a mere name is its own path."""
    whole = path if path.startswith(_FEATURE_ATTENTION) else f"{_FEATURE_ATTENTION}.{path}"
    return _FEATURE_ATTENTION if isinstance(chosen, str) else whole


def _initialise(encoder: nn.Module) -> None:
    """N(0, 2 / fan_out) convolutions (He et al. 2015)."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _require_size(place: EncoderPlace, stem: int, blocks: list[int]) -> None:
    stages = len(blocks)
    smallest, stride = min(place.image.height, place.image.width), stem * 2 ** (stages - 1)
    if smallest < stride:
        most = (smallest // stem).bit_length()
        raise ConfigError(
            f"{stages} stages after a stem of {stem} halve a side of {smallest} pixels (image.size) to less than one "
            f"cell of {stride}: set it to {blocks[:most]}, or image.size={stride}",
            "encoder.blocks",
        )
