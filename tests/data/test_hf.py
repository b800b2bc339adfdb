"""Data sets of the ``datasets`` library, from folders; the hub is out of reach here."""

from __future__ import annotations

import pytest

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
        ("id", "train row 1: column 'id' holds int, not text: 1"),
    ],
)
def test_bad_columns_are_named(make_reader, saved, target, message):
    with pytest.raises(DataError, match=message):
        pairs(make_reader(**{**saved, "target": target}))


def test_the_hub_out_of_reach_says_what_to_do(make_reader, tmp_path):
    reader = make_reader(type="hf", path="nobody/nothing", root=str(tmp_path))
    with pytest.raises(DataError, match="(?s)hf nobody/nothing: cannot load split 'train'.*save_to_disk"):
        pairs(reader)
