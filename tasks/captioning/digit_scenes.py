"""Embedded data: scenes of handwritten digits, and what can be said of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from attnbuild.data.handwritten import SIDE, handwritten_digits
from attnbuild.data.pictures import Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Modality, Reader, Row
from attnbuild.registry import register
from attnbuild.tasks.captioning.digit_captions import Placed, captions

__all__ = ["DigitScenesReader", "Scene"]

#: Rows and columns of the grid.
_CELLS = 3

#: Side of a cell, in pixels, at which digits stand a little apart; at twice that, they are drawn twice as large.
_ROOM = SIDE + 2


@dataclass(frozen=True)
class Scene:
    """Digits on a black canvas.

    Attributes:
        pixels: grey, shape (size, size), uint8.
        digits: what stands where, from the top left to the bottom right.
        corners: top and left pixel of each digit.
    """

    pixels: np.ndarray
    digits: list[Placed]
    corners: list[tuple[int, int]]


@register("data", "digit_scenes")
class DigitScenesReader(Reader):
    """Scenes of one to three real handwritten digits, each with several true captions.

    ``a seven above a three , which is to the left of a zero``: made in a second, and the same for the same
    options. The digits of a scene differ, and no handwritten digit is in the scenes of two splits.

    Args:
        place: what the builder knows.
        size: height and width of a scene in pixels.
        digits: most digits in a scene.
        references: captions of a scene, each worded differently.
        train: number of training scenes.
        validation: number of validation scenes.
        test: number of test scenes.
        seed: what the scenes are drawn from; apart from the run's seed, so that runs share the data.
    """

    source: ClassVar[Modality] = "image"
    targets: ClassVar[tuple[str, ...]] = ("captions",)

    def __init__(
        self,
        place: DataPlace,
        *,
        size: Annotated[int, Ge(_CELLS * SIDE)] = 32,
        digits: Annotated[int, Interval(ge=1, le=3)] = 3,
        references: Annotated[int, Interval(ge=1, le=5)] = 5,
        train: Annotated[int, Ge(1)] = 4000,
        validation: Annotated[int, Ge(1)] = 300,
        test: Annotated[int, Ge(1)] = 300,
        seed: int = 1,
    ) -> None:
        super().__init__("digit_scenes")
        self._size = size
        self._digits = digits
        self._references = references
        self._sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        self._seed = seed

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def rows(self, split: str) -> Iterator[Row]:
        draw = random.Random(f"captions {self._seed} {split}")
        for number, scene in enumerate(self.scenes(split), start=1):
            picture = Picture(scene.pixels, f"digit_scenes, {split} row {number}")
            yield picture, draw.sample(captions(scene.digits), self._references)

    def scenes(self, split: str) -> Iterator[Scene]:
        """The scenes of a split."""
        draw = random.Random(f"scenes {self._seed} {split}")
        pixels, values = handwritten_digits(split)
        shown = [np.flatnonzero(values == digit).tolist() for digit in range(10)]
        for _ in range(self._sizes[split]):
            count = draw.randint(1, self._digits)
            cells = sorted(draw.sample(range(_CELLS**2), count))
            digits = draw.sample(range(10), count)
            placed = [Placed(digit, *divmod(cell, _CELLS)) for digit, cell in zip(digits, cells, strict=True)]
            yield self._draw_scene(placed, [pixels[draw.choice(shown[digit])] for digit in digits], draw)

    def _draw_scene(self, placed: list[Placed], ink: list[np.ndarray], draw: random.Random) -> Scene:
        """Put handwritten digits, each (8, 8), somewhere in their cells."""
        cell = self._size // _CELLS
        scale = max(1, cell // _ROOM)
        # At most half a digit, so that neighbours in a row or column stay side by side.
        slack = min(cell - scale * SIDE, scale * SIDE // 2)
        canvas = np.zeros((self._size, self._size), np.uint8)
        corners = []
        for digit, small in zip(placed, ink, strict=True):
            top = digit.row * cell + draw.randint(0, slack)
            left = digit.column * cell + draw.randint(0, slack)
            large = small.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas[top : top + len(large), left : left + len(large)] = large
            corners.append((top, left))
        return Scene(canvas, placed, corners)
