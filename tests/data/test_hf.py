"""Data sets of the ``datasets`` library, from folders; the hub is out of reach here."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from attnbuild.errors import DataError

datasets = pytest.importorskip("datasets")

ROWS = {
    "id": [1, 2, 3],
    "translation": [{"en": "one", "de": "eins"}, {"en": "two", "de": ""}, {"en": "three", "de": "drei"}],
}
NESTED = {"source": "translation.en", "target": "translation.de"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def pairs(reader, split="train"):
    return [(row["source"], row["target"]) for row in reader.read(split)]


@pytest.fixture
def saved(tmp_path):
    """A folder that ``save_to_disk`` wrote, relative to its root."""
    splits = {"train": datasets.Dataset.from_dict(ROWS), "test": datasets.Dataset.from_dict(ROWS)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return {"type": "hf", "path": "saved", "root": str(tmp_path), "validation": None, **NESTED}


def test_reads_a_saved_folder(make_reader, saved):
    reader = make_reader(**saved)
    assert reader.splits() == ("train", "test")
    assert pairs(reader) == [("one", "eins"), ("three", "drei")]
    assert reader.skipped() == {"train": 1}
    assert reader.fingerprint("train") == make_reader(**saved).fingerprint("train")


def test_a_missing_split_is_named(make_reader, saved):
    with pytest.raises(DataError, match="the folder has only: train, test"):
        pairs(make_reader(**{**saved, "validation": "dev"}), "validation")


def test_a_data_set_saved_alone_is_the_training_split_only(make_reader, saved, tmp_path):
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "alone")
    reader = make_reader(**{**saved, "path": "alone"})
    assert len(pairs(reader)) == 2
    with pytest.raises(DataError, match="the folder has only: train"):
        pairs(reader, "test")


def test_reads_a_folder_of_files(make_reader, saved, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"en": "one", "de": "eins"}\n', encoding="utf-8")
    reader = make_reader(**{**saved, "path": "files", "source": "en", "target": "de"})
    assert pairs(reader) == [("one", "eins")]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("translation.fr", "no column 'translation.fr'; the columns are: translation.en, translation.de"),
        ("german", "no column 'german'; the columns are: id, translation"),
        (
            "translation",
            "train row 1: column 'translation' holds dict, neither text nor a label: {",
        ),
    ],
)
def test_bad_columns_are_named(make_reader, saved, target, message):
    with pytest.raises(DataError, match=message):
        pairs(make_reader(**{**saved, "target": target}))


def test_the_hub_out_of_reach_says_what_to_do(make_reader, tmp_path):
    reader = make_reader(type="hf", path="nobody/nothing", root=str(tmp_path))
    with pytest.raises(DataError, match="(?s)hf nobody/nothing: cannot load split 'train'.*save_to_disk"):
        pairs(reader)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pets(tmp_path):
    """Pictures stored with their bytes, class names, several labels, pairs of texts."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["young", "old"])),
            "first": datasets.Value("string"),
            "second": datasets.Value("string"),
            "same": datasets.Value("bool"),
            "score": datasets.Value("float64"),
        }
    )
    columns = {
        "image": [{"bytes": png(n), "path": None} for n in (10, 20)] + [{"bytes": b"broken", "path": "c.png"}, None],
        "label": [1, 0, 1, 0],
        "tags": [[0, 1], [], [1], [0]],
        "first": ["a", "b", "c", "d"],
        "second": ["A", "B", "", "D"],
        "same": [True, False, True, False],
        "score": [1.5, float("nan"), None, -1.0],
    }
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns, features=features)}).save_to_disk(
        tmp_path / "pets"
    )
    return {"type": "hf", "path": "pets", "root": str(tmp_path), "validation": None, "test": None}


def test_pictures_and_class_names(make_reader, pets):
    reader = make_reader(**pets, source="image", target="label", pictures=True)
    assert reader.source_modality({"pictures": True}) == "image"
    rows = list(reader.read("train"))
    assert [row["target"] for row in rows] == ["dog", "cat", "dog"]
    assert reader.skipped() == {"train": 1}
    assert [row["source"].load(2, 1, "crop")[0, 0, 0] for row in rows[:2]] == [10, 20]
    assert rows[1]["source"].name == "hf pets, train row 2"
    with pytest.raises(DataError, match="hf pets, train row 3: cannot be read as a picture: it is damaged"):
        rows[2]["source"].load(2, 1, "crop")


@pytest.mark.parametrize(
    ("target", "values"),
    [
        ("tags", [["young", "old"], ["old"], ["young"]]),
        ("same", ["True", "False", "True", "False"]),
        ("score", ["1.5", "-1.0"]),
    ],
)
def test_labels_of_other_types(make_reader, pets, target, values):
    assert [row["target"] for row in make_reader(**pets, source="first", target=target).read("train")] == values


def test_pairs_of_texts(make_reader, pets):
    reader = make_reader(**pets, source="first", target="label", pair="second")
    assert [row["source"] for row in reader.read("train")] == [("a", "A"), ("b", "B"), ("d", "D")]


def test_pictures_that_were_not_asked_for(make_reader, pets):
    with pytest.raises(
        DataError, match="train row 1: column 'image' holds dict, not text: .*; for pictures set data.pictures=true"
    ):
        list(make_reader(**pets, source="image", target="label").read("train"))
    with pytest.raises(
        DataError, match="train row 1: column 'label' holds int, neither a file name nor the bytes of a picture"
    ):
        list(make_reader(**pets, source="label", target="label", pictures=True).read("train"))


def test_rows_held_out_of_a_data_set(make_reader, pets):
    reader = make_reader(**{**pets, "validation": 1}, source="first", target="label")
    texts = {split: [row["source"] for row in reader.read(split)] for split in reader.splits()}
    assert {split: len(found) for split, found in texts.items()} == {"train": 3, "validation": 1}
    assert sorted(texts["train"] + texts["validation"]) == ["a", "b", "c", "d"]
