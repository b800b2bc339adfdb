"""Pictures as the data stores them, and how one becomes pixels."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnbuild.errors import DataError
from attnbuild.printable import in_one_line

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MOST_PIXELS", "SUFFIXES", "Channels", "Fit", "Picture"]

Fit = Literal["crop", "stretch", "pad"]
Channels = Literal[1, 3]

#: Endings of file names that say picture.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2")

#: What these hold, as Pillow names it. It knows more, and hands some of it to other programs (EPS to Ghostscript).
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000")

#: A picture that claims more pixels is refused before they are made: each takes up to 16 bytes on the way to a square.
#: Pillow itself would warn somewhat later, and refuse at twice as many.
MOST_PIXELS = 80_000_000

#: Files whose integer pixels ("I" to Pillow) go from 0 to 65535.
_SIXTEEN_BITS = ("PNG", "PPM")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is not decoded yet.

    Attributes:
        data: a file; or the bytes of one; or pixels, uint8, shape (height, width) or (height, width, 3).
        name: file and row, for messages and samples.
    """

    data: Path | bytes | np.ndarray
    name: str

    def load(self, size: int, channels: Channels, fit: Fit) -> np.ndarray:
        """Pixels of a square, shape (channels, size, size), uint8.

        The first frame is taken and turned as its EXIF orientation says, where that can be read; transparency becomes
        white, 16 bits become 8. A photo far larger than the square is decoded at a fraction of its resolution.

        Args:
            size: side of the square in pixels.
            channels: 1 (grey) or 3 (RGB).
            fit: crop (the middle square), stretch (all of it, out of proportion) or pad (all of it, on black).

        Raises:
            DataError: it is missing, empty, damaged, no picture, or too large; the message names it.
        """
        if size * size > MOST_PIXELS:
            raise self._error(f"a square of {size} x {size} pixels is too large")
        try:
            with self._open() as image:
                pixels = np.asarray(_fitted(_upright(image, size, channels), size, fit))
        except DataError:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged files; the user needs to know which
            raise self._error(_reason(error)) from error
        return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))

    def content(self) -> bytes:
        """What determines the pixels, to be hashed: the bytes of the file, or the shape and the pixels.

        Raises:
            DataError: the file cannot be read.
        """
        if isinstance(self.data, bytes):
            return self.data
        if isinstance(self.data, np.ndarray):
            return repr(self.data.shape).encode() + self.data.tobytes()
        try:
            return self.data.read_bytes()
        except OSError as error:
            raise self._error(_reason(error)) from error

    def _open(self) -> Image.Image:
        from PIL import Image

        if isinstance(self.data, np.ndarray):
            return Image.fromarray(self.data)
        if isinstance(self.data, Path) and self.data.exists() and not (self.data.is_file() or self.data.is_dir()):
            raise self._error("it is no file")  # a pipe would be waited for
        if not (len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size):
            raise self._error("it is empty")
        image = Image.open(io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data, formats=_FORMATS)
        if image.width * image.height > MOST_PIXELS:
            image.close()
            most = f"{MOST_PIXELS // 1_000_000} megapixels"
            raise self._error(f"{image.width} x {image.height} pixels are more than {most}: make it smaller")
        return image

    def _error(self, reason: str) -> DataError:
        return DataError(f"{self.name}: cannot be read as a picture: {reason}")


def _upright(image: Image.Image, size: int, channels: Channels) -> Image.Image:
    """The first frame, turned upright, in mode L or RGB."""
    from PIL import Image, ImageOps

    image.draft(None, (2 * size, 2 * size))
    image.load()  # whatever is wrong with the pixels is told here
    with contextlib.suppress(Exception):  # the picture is whole: what cannot be read says only how it was held
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels have no range that all agree on; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _fitted(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    """A square of an upright image."""
    from PIL import Image, ImageOps

    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    if fit == "pad":
        return ImageOps.pad(image, (size, size), Image.Resampling.BICUBIC)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, without the path or object that the caller names anyway."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or none of {', '.join(_FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return in_one_line(str(error) or type(error).__name__, 200)
