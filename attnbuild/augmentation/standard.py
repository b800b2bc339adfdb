"""Flips, shifts, turns, colours and erased boxes, drawn for each image."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval, Le
from torch import Tensor, nn

from attnbuild.registry import register

__all__ = ["Standard"]

Share = Annotated[float, Interval(ge=0, le=1)]


@register("augmentation", "standard")
class Standard(nn.Module):
    """Flip, crop, rotate, colour and erase, each drawn anew for every image (by kornia, Riba et al. 2020).

    Everything is drawn from torch's global generator: the same seed gives the same images. What is 0 changes nothing.

    Args:
        flip: chance that left and right are exchanged; 0 where that changes the meaning, as of digits and of captions.
        crop: pixels of black around the image, of which a window of the old size is kept: a shift by so many at most.
        rotate: most degrees of a turn to either side; what comes from outside is black.
        color: how far brightness, contrast and (of RGB) saturation go from what they are: factors from 1 - x to 1 + x.
        erase: chance that a box of 2 to 33 percent of the area becomes black (Zhong et al. 2020).
    """

    def __init__(
        self,
        place: Any,
        *,
        flip: Share = 0.5,
        crop: Annotated[int, Ge(0)] = 4,
        rotate: Annotated[float, Interval(ge=0, le=180)] = 0.0,
        color: Annotated[float, Ge(0), Le(1)] = 0.1,
        erase: Share = 0.0,
    ) -> None:
        super().__init__()
        self.flip = flip
        self.crop = crop
        self.rotate = rotate
        self.color = color
        self.erase = erase
        self._made: dict[tuple[int, int, int], list[nn.Module]] = {}

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, C, H, W), uint8 -> the same shape, float32 in [0, 1]."""
        # Half precision would place pixels by coordinates that are off by several of them.
        with torch.autocast(pixels.device.type, enabled=False):
            images = pixels.float() / 255
            for change in self._changes(*pixels.shape[1:]):
                images = change(images)
            return images.clamp(0, 1)

    def _changes(self, channels: int, height: int, width: int) -> list[nn.Module]:
        """What is asked for, for images of this shape, in the order in which it is done."""
        shape = channels, height, width
        if shape not in self._made:
            from kornia import augmentation as kornia

            saturation = self.color if channels == 3 else 0.0
            changes = [
                (self.color, kornia.ColorJitter(self.color, self.color, saturation, 0.0, p=1.0)),
                (self.flip, kornia.RandomHorizontalFlip(p=self.flip)),
                (self.rotate, kornia.RandomRotation(self.rotate, p=1.0)),
                (self.crop, kornia.RandomCrop((height, width), padding=self.crop, p=1.0)),
                (self.erase, kornia.RandomErasing(p=self.erase)),
            ]
            self._made[shape] = [change for amount, change in changes if amount]
        return self._made[shape]
