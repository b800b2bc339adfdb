"""The vision Transformer."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.place import PlaceKind
from attnbuild.dropout import Dropout
from attnbuild.embedding import sinusoids2d
from attnbuild.encoders.base import EncoderPlace
from attnbuild.encoders.layers import LayeredEncoder
from attnbuild.encoders.pixels import Normalise
from attnbuild.errors import ConfigError
from attnbuild.feedforward import Activation
from attnbuild.inputs import ImageInput
from attnbuild.memory import Memory
from attnbuild.registry import register
from attnbuild.residual import Norm

__all__ = ["VisionTransformer"]

Positions = Literal["sinusoidal2d", "learned", "none"]


@register("encoder", "vit")
class VisionTransformer(LayeredEncoder):
    """Patches of an image as a sequence: z_0 = [x_class; x_1 E; ...; x_N E] + E_pos (Dosovitskiy et al. 2021, 3.1).

    E is a matrix that all patches share; with sinusoidal2d, half of E_pos follows the row and half the column.

    Args:
        patch: height and width of a patch in pixels; divides the image's.
        dim: width of the states.
        layers: number of layers.
        feedforward: width inside the position-wise network.
        dropout: probability of dropping a channel, after each sublayer and the embedding.
        drop_path: probability of leaving a sublayer out for a whole image; rises evenly to this at the last layer.
        norm: layer norm before (pre, as in the paper) or after (post) each sublayer.
        activation: of the position-wise network.
        positions: how place enters: sinusoidal2d (fixed), learned, or none where the attention has its own.
        class_token: a learned token before the patches sums up the image, in place of the mean.
    """

    places = {"attention": PlaceKind(cells=True)}
    reads = ("image",)

    def __init__(
        self,
        place: EncoderPlace,
        *,
        patch: Annotated[int, Ge(1)] = 4,
        dim: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 6,
        feedforward: Annotated[int, Ge(1)] = 512,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        drop_path: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        norm: Norm = "pre",
        activation: Activation = "gelu",
        positions: Positions = "sinusoidal2d",
        class_token: bool = True,
    ) -> None:
        super().__init__()
        grid = _grid(place.image, patch)
        self.normalise = Normalise(place.image.mean, place.image.std)
        self.patches = nn.Conv2d(place.image.channels, dim, kernel_size=patch, stride=patch)
        self.positions = positions
        self.learned = nn.Parameter(torch.empty(grid[0] * grid[1], dim)) if positions == "learned" else None
        if self.learned is not None:
            nn.init.normal_(self.learned, std=0.02)
        self.dropout = Dropout(dropout)
        self.add_layers(
            place.attention,
            dim=dim,
            layers=layers,
            feedforward=feedforward,
            norm=norm,
            activation=activation,
            dropout=dropout,
            drop_path=drop_path,
            class_token=class_token,
            grid=grid,
        )

    def forward(self, source: Tensor) -> Memory:
        cells = self.patches(self.normalise(source)).flatten(2).transpose(1, 2)
        return self.encode(self.dropout(self._add_positions(cells)), None)

    def _add_positions(self, cells: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        if self.positions == "none":
            return cells
        assert self.grid is not None
        where = sinusoids2d(self.grid, self.dim, cells.device) if self.learned is None else self.learned
        return cells + where.to(cells.dtype)


def _grid(image: ImageInput, patch: int) -> tuple[int, int]:
    """How many patches the image has, (height, width)."""
    if image.height % patch or image.width % patch:
        size = f"{image.height}x{image.width}"
        near = max(patch, round(image.height / patch) * patch)
        fit = [number for number in range(1, image.height + 1) if image.height % number == 0 == image.width % number]
        divisor = min(fit, key=lambda number: abs(number - patch))
        raise ConfigError(
            f"patches of {patch} pixels do not divide an image of {size}: set encoder.patch={divisor}, "
            f"or image.size={near}",
            "encoder.patch",
        )
    return image.height // patch, image.width // patch
