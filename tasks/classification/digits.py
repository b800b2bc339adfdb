"""Embedded data: handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from attnbuild.data.handwritten import handwritten_digits
from attnbuild.data.pictures import Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Modality, Reader, Row
from attnbuild.registry import register

__all__ = ["DigitsReader"]


@register("data", "digits")
class DigitsReader(Reader):
    """Handwritten digits, 8 x 8 pixels of grey: 1,257 / 180 / 360 (Alpaydin and Kaynak 1998, from scikit-learn).

    Args:
        place: what the builder knows.
    """

    source: ClassVar[Modality] = "image"
    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(self, place: DataPlace) -> None:
        super().__init__("digits")

    def splits(self) -> tuple[str, ...]:
        return SPLITS

    def rows(self, split: str) -> Iterator[Row]:
        for number, (pixels, digit) in enumerate(zip(*handwritten_digits(split), strict=True), start=1):
            yield Picture(pixels, f"digits, {split} row {number}"), str(digit)
