"""Data of strangers: every oddity is named with its file and line, or read; memory follows what is shown of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tracemalloc
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnbuild import DataError
from attnbuild.data.pictures import MOST_PIXELS, Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.columns import Column
from attnbuild.data.readers.files import LONGEST_LINE, read_lines
from attnbuild.registry import build
from tests.hostile_files import at_most

COLUMNS = [Column("source", "a"), Column("target", "b")]


def reader(folder: Path, type: str = "table", **options: Any) -> Any:
    given = {"validation": None, "test": None, "root": str(folder), **options}
    return build("data", DataPlace(folder / "cache", seed=1), {"type": type, **given}, "data")


def rows(path: Path) -> list[tuple[Any, Any]]:
    """All rows of a table by way of its reader."""
    made = reader(path.parent, source="a", target="b", train=path.name)
    return [(row["source"], row["target"]) for row in made.read("train")]


def refused(path: Path, message: str) -> None:
    with at_most(1000), pytest.raises(DataError, match=message) as error:
        rows(path)
    assert path.name in str(error.value)
    assert len(str(error.value)) < 5000


# Lines


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,b\nx,y\n\xff\xfe,z\n")
    refused(tmp_path / "t.csv", r"t\.csv:3: not UTF-8: byte 0xff at position 1")


def test_long_lines_are_read_and_endless_ones_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": "x" * (10 << 20), "b": "y"}))
    ((source, target),) = rows(tmp_path / "t.jsonl")
    assert (len(source), target) == (10 << 20, "y")
    (tmp_path / "t.tsv").write_text(f"a\tb\n{'x' * (10 << 20)}\ty\n")
    refused(tmp_path / "t.tsv", r"t\.tsv:2: field larger than field limit")
    with gzip.open(tmp_path / "z.txt.gz", "wb", compresslevel=9) as file:
        for _ in range((LONGEST_LINE >> 20) + 10):
            file.write(bytes(1 << 20))
    assert (tmp_path / "z.txt.gz").stat().st_size < 1 << 18
    with at_most(400), pytest.raises(DataError, match=r"z\.txt\.gz:1: the line is longer than 64 MB"):
        list(read_lines(tmp_path / "z.txt.gz"))


def test_a_million_empty_lines_take_no_memory(tmp_path):
    (tmp_path / "t.jsonl").write_text("\n" * 1_000_000)
    with at_most(20), pytest.raises(DataError, match="no example in train: only 1000000 rows with an empty side"):
        rows(tmp_path / "t.jsonl")


def test_control_characters_are_text(tmp_path):
    odd = "\x1b[2J\x00\x07\x9b1m\u202egnp"
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": odd, "b": "x"}))
    assert rows(tmp_path / "t.jsonl") == [(odd, "x")]


# Tables


def test_a_million_columns(tmp_path):
    names = ",".join(f"column{number}" for number in range(1_000_000))
    path = tmp_path / "t.csv"
    path.write_text(f"{names}\n")
    refused(path, r"t\.csv:1: no column 'a'; the columns are: column0, column1, .*, \.\.\.; choose by data\.source")
    path.write_text(f"a,b,{names}\nx,y{',' * 1_000_000}\n")
    assert rows(path) == [("x", "y")]


def test_an_unclosed_quote_is_told_where_it_opens(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\nx,y\n"open,z\n' + "p,q\n" * 10)
    refused(path, r"t\.csv:3: .*is a quote of the row not closed\?")
    path.write_text('a,b\nx,y\n"open,z\n' + "p,q\n" * 1_000_000)
    tracemalloc.start()
    refused(path, r"t\.csv:3: field larger than field limit .*is a quote of the row not closed\?")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_columns_that_stand_twice(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,a\nx,y,z\n")
    refused(tmp_path / "t.csv", r"t\.csv:1: column 'a' stands there 2 times")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": "x", "b": "y", "a": "z"}', "the key 'a' stands there twice"),
        ('{"a": "x", "b": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": "x\\uDFFF", "b": "y"}', "half of a surrogate pair"),
        ('{"a": "x", 1: "y"}', "not JSON"),
        ('{"a": "x", "b": ' + "[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": "x", "b": 1e999}', "number beyond"),
        ('{"a": "x", "b": -Infinity}', "number beyond"),
        ('{"a": "x", "b": ' + "9" * 10_000 + "}", "not JSON"),
        ('["a", "b"]', "expected a JSON object"),
        ('{"a": "x", "b": {"c": "d"}}', "neither text nor a label"),
        ('{"a": ["x"], "b": "y"}', "not text"),
        ('{"c": ' + '{"c": ' * 900 + "1" + "}" * 901, "no column 'a'|nested too deeply"),
    ],
)
def test_odd_json_is_named_with_its_line(tmp_path, line, message):
    (tmp_path / "t.jsonl").write_text('{"a": "x", "b": "y"}\n' + line + "\n")
    refused(tmp_path / "t.jsonl", rf"t\.jsonl:2: .*({message})")


def test_odd_json_that_is_text(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"a": "\\ud83d\\ude00", "b": NaN}\n{"a": "\\u0000", "b": 12345678901234567890123}\n'
    )
    assert rows(tmp_path / "t.jsonl") == [("\0", "12345678901234567890123")]


@pytest.mark.parametrize("number", ["--5", "1" * 10_000, "-", "\N{SUPERSCRIPT TWO}", "1e3"])
def test_label_numbers_that_are_none(number):
    with pytest.raises(DataError, match="here:1: .*the labels go from 0 to 1"):
        Column("target", "b").target({"b": number}, "here:1", ["no", "yes"])


def test_a_parquet_text_that_is_not_utf8(tmp_path):
    import pyarrow
    import pyarrow.parquet

    data = pyarrow.array([b"\xff\xfe", b"x"], pyarrow.binary())
    array = pyarrow.Array.from_buffers(pyarrow.string(), 2, data.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"a": array, "b": ["p", "q"]}), tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", r"t\.parquet: damaged after row 0")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[]", "has no 'images'"),
        ('{"images": 3, "annotations": []}', "'images' is no list"),
        ('{"images": {"id": 1}, "annotations": []}', "'images' is no list"),
        ('{"images": [3], "annotations": []}', r"images\[0\]: has no 'id'"),
        (
            '{"images": [{"id": [1], "file_name": "x"}], "annotations": []}',
            r"images\[0\]: 'id' is neither a number nor",
        ),
        (
            '{"images": [], "annotations": [{"image_id": {}, "caption": "x"}]}',
            r"annotations\[0\]: 'image_id' is neither",
        ),
        ('{"images": [{"id": 1, "file_name": {}}], "annotations": []}', r"images\[0\]: 'file_name' is no text"),
        ('{"images": [{"id": 1, "file_name": "\\ud800"}], "annotations": []}', "half of a surrogate pair"),
        (
            '{"images": [{"id": 1, "file_name": "' + "x" * 100_000 + '.png"}], "annotations": []}',
            "no picture file 'xxx",
        ),
        ('{"images": [{"id": 1, "file_name": "a\\u0000b"}], "annotations": []}', "no picture file"),
    ],
)
def test_caption_documents(tmp_path, document, message):
    (tmp_path / "captions.json").write_text(document)
    made = reader(tmp_path, "coco", path=".", train="captions.json")
    with pytest.raises(DataError, match=message) as error:
        list(made.read("train"))
    assert len(str(error.value)) < 3000


# Pictures


def png(width: int, height: int, *more: tuple[bytes, bytes], bits: int = 8, colour: int = 2) -> bytes:
    """The start of a PNG that claims these sides."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """A GIF whose one frame claims these sides."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def saved(format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 16), (200, 10, 10)).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(png(50_000, 50_000), png(2**31 - 1, 2**31 - 1), png(MOST_PIXELS + 1, 1), png(1, 2**31 - 1), png(9000, 9000)),
        *(gif((65535, 65535), (1, 1)), gif((10, 10), (65535, 65535)), b"P6 99999 99999 255\n", b"P6 1e9 1 255\n"),
        png(8, 8, (b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20), 9))),
        png(8, 8, (b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(64 << 20), 9))),
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
)
def test_bombs_are_refused_before_their_pixels_are_made(data):
    assert len(data) < 200_000
    with at_most(300), pytest.raises(DataError, match="here:3: cannot be read as a picture: .+"):
        Picture(data, "here:3").load(8, 3, "crop")


def test_the_limit_is_ours():
    with pytest.raises(DataError, match="9000 x 9000 pixels are more than 80 megapixels: make it smaller"):
        Picture(png(9000, 9000), "here:3").load(8, 3, "crop")
    with pytest.raises(DataError, match="a square of 1000000000 x 1000000000 pixels is too large"):
        Picture(saved("PNG"), "here:3").load(10**9, 3, "crop")


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0broken", b"Exif\0\0MM\0*" + b"\0\0\0\x08" + b"\xff" * 60]
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_orientation_does_not_lose_the_picture(exif, format):
    pixels = Picture(saved(format, exif=exif), "here:3").load(8, 3, "crop")
    assert np.abs(pixels.reshape(3, -1).mean(1) - [200, 10, 10]).max() < 12


def test_a_broken_profile_does_not_lose_the_picture():
    for data in (saved("JPEG", icc_profile=b"broken" * 100), saved("PNG", icc_profile=b"x")):
        assert Picture(data, "here:3").load(8, 3, "crop").shape == (3, 8, 8)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="it is no file"):
        Picture(tmp_path / "pipe.png", "here:3").load(8, 3, "crop")


# Folders


def test_links_in_circles_and_odd_names(tmp_path):
    for label in ("cat", "-dog", "a 'b' \"c\""):
        (tmp_path / "train" / label).mkdir(parents=True)
        for name in ("-rf.png", "new\nline.png", "quote'\".png", "$(touch owned).png", "\x1b[2J.png"):
            (tmp_path / "train" / label / name).write_bytes(saved("PNG"))
    cat = tmp_path / "train" / "cat"
    with open(os.fsencode(cat) + b"/caf\xe9.png", "wb") as file:
        file.write(saved("PNG"))
    (cat / "loop").symlink_to(tmp_path)
    (cat / "self.png").symlink_to(cat / "self.png")
    (cat / "a.png").symlink_to(cat / "b.png")
    (cat / "b.png").symlink_to(cat / "a.png")
    examples = list(islice(reader(tmp_path, "image_folder", path=str(tmp_path)).read("train"), 100))
    assert len(examples) == 16
    for example in examples:
        assert example["source"].name.encode().decode().isprintable()
        assert example["source"].load(4, 3, "crop").shape == (3, 4, 4)
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"\x1b[31m"])
def test_folders_whose_names_are_no_labels(tmp_path, name):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "x.png").write_bytes(saved("PNG"))
    os.mkdir(os.fsencode(tmp_path / "train") + b"/" + name)
    with pytest.raises(DataError, match="the folder's name is to be a label, and is no text: rename it") as error:
        list(reader(tmp_path, "image_folder", path=str(tmp_path)).read("train"))
    assert str(error.value).isprintable()
