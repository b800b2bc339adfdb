"""Pictures of every kind become pixels; those that cannot are named."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attnbuild.data.pictures import Picture
from attnbuild.errors import DataError


def stored(image: Image.Image, format: str = "PNG", **options: object) -> Picture:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return Picture(file.getvalue(), "here:3")


def colour(picture: Picture, channels=3, fit="stretch") -> list[int]:
    """The middle pixel."""
    return picture.load(4, channels, fit)[:, 2, 2].tolist()


def big_png(width: int, height: int) -> bytes:
    """The start of a PNG that claims these sides."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


JPEG = stored(Image.effect_noise((64, 48), 50).convert("RGB"), "JPEG").content()


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    side=st.integers(1, 24),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "stretch", "pad"]),
)
def test_any_picture_fills_the_square(size, mode, side, channels, fit):
    white = Image.new("I;16", size, 65535) if mode == "I;16" else Image.new("L", size, 255).convert(mode)
    pixels = stored(white).load(side, channels, fit)
    assert pixels.shape == (channels, side, side)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    if fit != "pad":
        assert pixels.min() == 255


def test_modes_keep_their_colour():
    red = Image.new("RGB", (6, 6), (200, 30, 40))
    assert colour(stored(red)) == [200, 30, 40]
    assert colour(stored(red.quantize(4))) == [200, 30, 40]
    assert colour(stored(red), channels=1) == [round(0.299 * 200 + 0.587 * 30 + 0.114 * 40)]
    assert colour(stored(red.convert("CMYK"), "TIFF")) == [200, 30, 40]
    jpeg = colour(stored(red.convert("CMYK"), "JPEG", quality=100))
    assert np.abs(np.subtract(jpeg, [200, 30, 40])).max() <= 3
    assert colour(stored(Image.new("L", (6, 6), 77))) == [77, 77, 77]
    assert colour(stored(Image.new("1", (6, 6), 1))) == [255, 255, 255]


def test_sixteen_bits_are_scaled_not_cut():
    ramp = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16).repeat(6, 0)
    for picture in (stored(Image.fromarray(ramp)), stored(Image.fromarray(ramp), "TIFF")):
        assert picture.load(6, 1, "stretch")[0, 0].tolist() == [0, 0, 1, 1, 128, 255]
    pgm = Picture(b"P5 6 6 65535 " + ramp.astype(">u2").tobytes(), "here:3")
    assert pgm.load(6, 1, "stretch")[0, 0].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range_are_refused(mode):
    with pytest.raises(DataError, match="here:3: .*32-bit pixels have no range"):
        stored(Image.new(mode, (4, 4), 3), "TIFF").load(4, 1, "crop")


def test_transparency_becomes_white():
    half = Image.new("RGBA", (6, 6), (0, 0, 0, 128))
    assert colour(stored(half)) == [127, 127, 127]
    assert colour(stored(Image.new("LA", (6, 6), (9, 0)))) == [255, 255, 255]
    palette = Image.new("P", (6, 6), 0)
    palette.putpalette([10, 20, 30])
    assert colour(stored(palette, transparency=0)) == [255, 255, 255]
    assert colour(stored(Image.new("RGB", (6, 6), (1, 2, 3)), transparency=(1, 2, 3))) == [255, 255, 255]


def test_the_first_frame_is_taken():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for format in ("GIF", "PNG", "TIFF"):
        assert colour(stored(frames[0], format, save_all=True, append_images=frames[1:])) == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(orientation):
    upright = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16)
    # The standard says where the stored first row and column are in the picture as seen.
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    turned = upright
    for step in undo.get(orientation, []):
        turned = turned.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(stored(turned, exif=exif.tobytes()).load(4, 1, "crop")[0], np.asarray(upright))


def test_fits():
    """A wide picture, its left third red, the middle green, the right blue."""
    wide = Image.new("RGB", (30, 10), (0, 255, 0))
    wide.paste((255, 0, 0), (0, 0, 10, 10))
    wide.paste((0, 0, 255), (20, 0, 30, 10))
    picture = stored(wide)
    assert (picture.load(10, 3, "crop") == np.array([0, 255, 0])[:, None, None]).all()
    stretched = picture.load(12, 3, "stretch")
    assert [stretched[:, 6, x].argmax() for x in (1, 6, 10)] == [0, 1, 2]
    padded = picture.load(30, 3, "pad")
    assert not padded[:, [0, 9, 20, 29]].any()
    assert [padded[:, 15, x].argmax() for x in (1, 15, 28)] == [0, 1, 2]


def test_a_square_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for fit in ("crop", "stretch", "pad"):
        assert np.array_equal(stored(Image.fromarray(pixels)).load(32, 3, fit), pixels.transpose(2, 0, 1))
        assert np.array_equal(Picture(pixels, "pixels").load(32, 3, fit), pixels.transpose(2, 0, 1))


def test_large_photos_are_decoded_small_but_alike():
    y, x = np.mgrid[:480, :640]
    photo = stored(Image.fromarray(np.stack([x // 3, y // 2, (x + y) // 5], -1).astype(np.uint8)), "JPEG", quality=95)
    exact = Image.open(io.BytesIO(photo.content())).crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BICUBIC)
    difference = photo.load(32, 3, "crop").astype(int) - np.asarray(exact).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "here:3: cannot be read as a picture: it is empty"),
        (b"hello", "here:3: cannot be read as a picture: it is damaged, or none of JPEG, PNG"),
        (JPEG[: len(JPEG) // 2], "here:3: .*truncated"),
        (JPEG[:40], "here:3: cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "here:3: .*none of"),
    ],
)
def test_what_is_no_picture_is_named(data, message, tmp_path):
    (tmp_path / "a.jpg").write_bytes(data)
    for picture in (Picture(data, "here:3"), Picture(tmp_path / "a.jpg", "here:3")):
        with pytest.raises(DataError, match=message):
            picture.load(8, 3, "crop")


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [9_500, 20_000, 2**31 - 1])
def test_bombs_are_refused(side):
    with pytest.raises(DataError, match=r"here:3: .*pixels"):
        Picture(big_png(side, side), "here:3").load(8, 3, "crop")


def test_missing_files_and_folders_are_named(tmp_path):
    for path, message in ((tmp_path / "none.png", "no such file"), (tmp_path, "is a directory")):
        for read in (Picture.content, lambda picture: picture.load(8, 3, "crop")):
            with pytest.raises(DataError, match=f"row 7: cannot be read as a picture: {message}"):
                read(Picture(path, "row 7"))


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on what it could make of the damage
@given(st.data())
def test_damage_ends_in_pixels_or_one_message(data):
    """Never in anything else that an image library may raise."""
    damaged = bytearray(data.draw(st.sampled_from([JPEG, PNG, GIF, TIFF])))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = Picture(bytes(damaged), "here:3").load(8, 3, "pad")
    except DataError as error:
        message = str(error)
    else:
        message = ""
        assert pixels.shape == (3, 8, 8)
    assert message.startswith("here:3: cannot be read as a picture: ") or not message


NOISE = Image.effect_noise((20, 12), 50)
PNG, GIF, TIFF = (stored(NOISE, format).content() for format in ("PNG", "GIF", "TIFF"))


def test_content_follows_pixels_and_shape(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert Picture(tmp_path / "a", "a").content() == Picture(b"abc", "b").content() == b"abc"
    row = np.arange(6, dtype=np.uint8)
    contents = {Picture(row.reshape(shape), "").content() for shape in ((2, 3), (3, 2), (1, 6))}
    assert len(contents) == 3


def test_threads_read_at_once(tmp_path: Path):
    pictures = [stored(Image.new("RGB", (40, 30), (n, 0, 255 - n)), "PNG") for n in range(64)]
    alone = [picture.load(8, 3, "crop") for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda picture: picture.load(8, 3, "crop"), pictures))
    assert all(map(np.array_equal, alone, together))
