"""The shipped choices of real data read what they say, on the real files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attnbuild.data.pictures import Picture
from attnbuild.paths import conf_dir

SIZES = {
    "trec": (4952, 500, 500),
    "sst2": (6920, 872, 1821),
    "ag_news": (8991, 1000, 7600),
    "cifar10": (18000, 2000, 4000),
    "ucm_captions": (1283, 157, 160),
}
LABELS = {
    "trec": {"description", "entity", "abbreviation", "human", "location", "number"},
    "sst2": {"negative", "positive"},
    "ag_news": {"World", "Sports", "Business", "Sci/Tech"},
    "cifar10": {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"},
}


@pytest.fixture
def examples(make_reader, real_data: Path):
    def read(preset: str) -> dict[str, list]:
        section = yaml.safe_load((conf_dir() / "data" / f"{preset}.yaml").read_text(encoding="utf-8"))
        reader = make_reader(**{**section, "root": str(real_data)})
        return {split: list(reader.read(split)) for split in reader.splits()}

    return read


@pytest.mark.parametrize("preset", SIZES)
def test_sizes_and_labels(examples, preset):
    found = examples(preset)
    sizes = tuple(len(found[split]) for split in ("train", "validation", "test"))
    # Rows of train with the same text are held out together, so one or two more may be.
    assert all(abs(size - told) <= 3 for size, told in zip(sizes, SIZES[preset], strict=True))
    assert sum(sizes) == sum(SIZES[preset])
    if preset in LABELS:
        assert all({row["target"] for row in rows} == LABELS[preset] for rows in found.values())


@pytest.mark.parametrize("preset", ["trec", "ag_news", "cifar10"])
def test_nothing_held_out_is_in_train(examples, preset):
    found = examples(preset)
    train, validation = (
        {row["source"].content() if isinstance(row["source"], Picture) else row["source"] for row in found[split]}
        for split in ("train", "validation")
    )
    assert not train & validation


@pytest.mark.parametrize(
    ("preset", "text", "label"),
    [
        ("trec", "How far is it from Denver to Aspen ?", "number"),
        ("trec", "What county is Modesto , California in ?", "location"),
        ("trec", "Who was Galileo ?", "human"),
        ("sst2", "no movement , no yuks , not much of anything .", "negative"),
    ],
)
def test_labels_are_named_right(examples, preset, text, label):
    assert [row["target"] for row in examples(preset)["test"] if row["source"] == text] == [label]


def test_pictures_of_ucm_captions(examples):
    found = examples("ucm_captions")
    files = [row["source"].data for rows in found.values() for row in rows]
    assert len(set(files)) == 1600
    for rows in found.values():
        assert all(len(row["target"]) == 5 for row in rows)
        assert rows[0]["source"].load(64, 3, "crop").std() > 5
    assert "There is a piece of farmland ." in found["train"][0]["target"]
