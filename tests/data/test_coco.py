"""COCO's annotations and Karpathy's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from attnbuild.errors import DataError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "coco"
    for name in ("train2017/a.jpg", "train2017/b.jpg", "val2017/c.jpg", "val2014/d.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(name), ord(name[-5]), 0)).save(root / name)
    return root


def write(folder: Path, name: str, document: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document) if not isinstance(document, str) else document, encoding="utf-8")


ORIGINAL = {
    "info": {},
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}, {"id": 4, "file_name": "c.jpg"}],
    "annotations": [
        {"image_id": 3, "id": 1, "caption": "a b"},
        {"image_id": 7, "id": 2, "caption": "an a\n"},
        {"image_id": 3, "id": 3, "caption": "one b"},
    ],
}
KARPATHY = {
    "images": [
        {
            "filename": "a.jpg",
            "filepath": "train2017",
            "split": "train",
            "sentences": [{"raw": "an a", "tokens": ["an", "a"]}],
        },
        {
            "filename": "b.jpg",
            "filepath": "train2017",
            "split": "restval",
            "sentences": [{"raw": "a b"}, {"raw": "one b"}],
        },
        {"filename": "c.jpg", "split": "val", "sentences": [{"raw": "a c"}]},
        {"filename": "d.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "a d"}]},
    ]
}


def found(reader, split):
    return [(row["source"].data.name, row["target"]) for row in reader.read(split)]


@pytest.fixture
def reader_of(make_reader, folder):
    return lambda **options: make_reader(type="coco", path=str(folder), **options)


def test_original_form(reader_of, folder):
    write(folder, "annotations/captions_train2017.json", ORIGINAL)
    write(
        folder,
        "annotations/captions_val2017.json",
        {**ORIGINAL, "images": [{"id": n, "file_name": "c.jpg"} for n in (3, 7)]},
    )
    reader = reader_of(validation=1)
    assert (reader.source_modality({}), reader.targets) == ("image", ("captions",))
    both = found(reader, "train") + found(reader, "validation")
    assert sorted(both) == [("a.jpg", ["an a"]), ("b.jpg", ["a b", "one b"])]
    assert sum(reader.skipped().values()) == 1  # nobody described c.jpg
    assert found(reader, "test") == [("c.jpg", ["a b", "one b"]), ("c.jpg", ["an a"])]
    names = {row["source"].name for row in reader.read("train")}
    assert names < {
        f"{folder}/annotations/captions_train2017.json: images[{n}]: {file}"
        for n, file in enumerate(("a.jpg", "b.jpg"))
    }


def test_karpathys_form(reader_of, folder):
    write(folder, "dataset_coco.json", KARPATHY)
    reader = reader_of(karpathy="dataset_coco.json", train="train+restval", validation="val", test="test")
    assert found(reader, "train") == [("a.jpg", ["an a"]), ("b.jpg", ["a b", "one b"])]
    assert found(reader, "validation") == [("c.jpg", ["a c"])]
    assert found(reader, "test") == [("d.jpg", ["a d"])]
    with pytest.raises(DataError, match=r"dataset_coco\.json: has no split dev, only restval, test, train, val"):
        found(reader_of(karpathy="dataset_coco.json", validation="dev"), "validation")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", r"captions\.json: not JSON"),
        ([], r"captions\.json: has no 'images'"),
        (KARPATHY, r"captions\.json: images\[0\]: has no 'id'; data\.karpathy says in which form"),
        (
            {**ORIGINAL, "annotations": [{"image_id": 9, "caption": "x"}]},
            r"captions\.json: annotations\[0\]: there is no image 9",
        ),
        ({**ORIGINAL, "annotations": [{"image_id": 3}]}, r"captions\.json: annotations\[0\]: has no 'caption'"),
        (
            {**ORIGINAL, "images": [*ORIGINAL["images"], {"id": 1, "file_name": "x.jpg"}]},
            r"captions\.json: images\[3\]: no picture file 'x\.jpg': tried .*train2017/x\.jpg",
        ),
    ],
)
def test_mistakes_are_named_with_file_and_entry(reader_of, folder, document, message):
    write(folder, "captions.json", document)
    with pytest.raises(DataError, match=message):
        found(reader_of(train="captions.json", validation=None), "train")
