"""Folders of pictures with a table of captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnbuild.errors import ConfigError, DataError

TABLE = 'image\tcaption\nb.png\ta "b"\na.png\tan a\nc.png\ta c\nb.png\tone b, once more\n\nd.png\ta d\n'


@pytest.fixture
def scenes(tmp_path):
    """A folder as UCM-Captions and Flickr8k have it."""
    folder = tmp_path / "scenes"
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate("abcd"):
        Image.new("L", (4, 4), 10 * number).save(folder / "images" / f"{name}.png")
    for split, names in (("train", "ba"), ("validation", "c"), ("test", "d")):
        lines = "\n".join(f"{name}.png" for name in names)
        (folder / f"{split}_images.txt").write_text(f"{lines}\n\n", encoding="utf-8")
    (folder / "captions.tsv").write_text(TABLE, encoding="utf-8")
    return folder


@pytest.fixture
def reader_of(make_reader, scenes):
    return lambda **options: make_reader(type="caption_table", path="scenes", root=str(scenes.parent), **options)


def found(reader, split):
    return [(Path(row["source"].data).name, row["target"]) for row in reader.read(split)]


def test_a_picture_is_an_example_with_all_its_captions(reader_of, scenes):
    reader = reader_of()
    assert (reader.source_modality({}), reader.targets) == ("image", ("captions",))
    assert found(reader, "train") == [("b.png", ['a "b"', "one b, once more"]), ("a.png", ["an a"])]
    assert found(reader, "validation") == [("c.png", ["a c"])]
    assert found(reader, "test") == [("d.png", ["a d"])]
    picture = next(reader.read("train"))["source"]
    assert picture.name == f"{scenes}/captions.tsv:2: b.png"
    assert picture.load(4, 1, "crop")[0, 0, 0] == 10


def test_a_column_tells_the_split(reader_of, scenes):
    rows = [("a.png", "an a", "train"), ("b.png", "a b", "val"), ("a.png", "one a", "train"), ("c.png", "a c", "test")]
    lines = "\n".join(",".join(row) for row in rows)
    (scenes / "all.csv").write_text(f"file,said,part\n{lines}\n", encoding="utf-8")
    reader = reader_of(
        table="all.csv", image="file", caption="said", split="part", train="train", validation="val", test="test"
    )
    assert found(reader, "train") == [("a.png", ["an a", "one a"])]
    assert found(reader, "validation") == [("b.png", ["a b"])]
    assert found(reader, "test") == [("c.png", ["a c"])]


def test_a_picture_in_two_splits_is_refused(reader_of, scenes):
    rows = [("a.png", "an a", "train"), ("b.png", "a b", "val"), ("a.png", "one a", "test"), ("b.png", "b", "unused")]
    lines = "\n".join(",".join(row) for row in rows)
    (scenes / "all.csv").write_text(f"image,caption,part\n{lines}\n", encoding="utf-8")
    reader = reader_of(table="all.csv", split="part", train="train", validation="val", test="test")
    assert found(reader, "validation") == [("b.png", ["a b"])]
    for split, line, other in (("train", 2, 4), ("test", 4, 2)):
        with pytest.raises(DataError, match=rf"all\.csv:{line}: 'a.png' is in another split at .*all\.csv:{other}"):
            found(reader, split)


def test_a_table_for_each_split_with_lists_of_captions(reader_of, scenes):
    rows = [{"image": f"{name}.png", "caption": [f"a {name}", f"one {name}", ""]} for name in "abcd"]
    (scenes / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    reader = reader_of(table=None, train="train.jsonl", validation=1, test=0.25)
    every = [row for split in reader.splits() for row in found(reader, split)]
    assert sorted(every) == [(f"{name}.png", [f"a {name}", f"one {name}"]) for name in "abcd"]
    assert [len(found(reader, split)) for split in reader.splits()] == [2, 1, 1]


def test_fingerprint_follows_pictures_captions_and_lists(reader_of, scenes):
    reader = reader_of()
    hashes = {reader.fingerprint(split) for split in reader.splits()}
    Image.new("L", (4, 4), 77).save(scenes / "images" / "a.png")
    hashes.add(reader.fingerprint("train"))
    (scenes / "captions.tsv").write_text(TABLE.replace("an a", "a"), encoding="utf-8")
    hashes.add(reader.fingerprint("train"))
    (scenes / "train_images.txt").write_text("a.png\n", encoding="utf-8")
    hashes.add(reader.fingerprint("train"))
    assert len(hashes) == 6


def spoil(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        (
            "train_images.txt",
            "a.png\n\nx.png\n",
            {},
            r"train_images\.txt:3: no caption for 'x\.png' in .*captions\.tsv",
        ),
        ("train_images.txt", "a.png\nd.png\n", {}, r"train_images\.txt:2: 'd\.png' is in .*test_images\.txt too"),
        (
            "captions.tsv",
            "image\tcaption\nb.png\tb\nx.png\tx\na.png\ta\n",
            {"table": None, "train": "captions.tsv"},
            r"captions\.tsv:3: no picture file 'x\.png': tried .*scenes/images/x\.png and .*scenes/x\.png",
        ),
        ("captions.tsv", "image\tcaption\n\tb\n", {}, r"captions\.tsv:2: column 'image' names no picture"),
        (
            "captions.tsv",
            "image\ttext\nb.png\tb\n",
            {},
            r"captions\.tsv:1: no column 'caption'; the columns are: image, text; choose by data\.caption",
        ),
        (
            "captions.tsv",
            TABLE,
            {"table": "caption.tsv"},
            r"no file 'caption\.tsv' \(from data\.table\): tried .*scenes/caption\.tsv \(from data\.path\)",
        ),
        ("captions.tsv", TABLE, {"train": "list.txt"}, r"no file 'list\.txt' \(from data\.train\)"),
        ("captions.tsv", TABLE, {"split": "part"}, r"no column 'part'; .* data\.split"),
    ],
)
def test_mistakes_are_named_with_file_and_row(reader_of, scenes, name, text, options, message):
    spoil(scenes, name, text)
    with pytest.raises(DataError, match=message):
        found(reader_of(**options), "train")


def test_a_split_column_needs_a_table(reader_of):
    with pytest.raises(ConfigError, match=r"data\.split +names a column of data\.table"):
        reader_of(table=None, split="part")
