"""The embedded data keeps its promises."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.data.place import DataPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import build
from attnbuild.tasks.translation.cldr import words

SMALL = {"train": 300, "validation": 20, "test": 20}


def make(tmp_path, **options):
    return build("data", DataPlace(tmp_path, seed=1), {"type": "cldr", **options}, "data")


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """All splits of the default data."""
    reader = make(tmp_path_factory.mktemp("cldr"))
    return {split: list(reader.read(split)) for split in reader.splits()}


def test_default_sizes_and_lengths(default):
    assert {split: len(rows) for split, rows in default.items()} == {"train": 12000, "validation": 400, "test": 400}
    lengths = [len(row["source"].split()) for row in default["train"]]
    assert min(lengths) == 1
    assert 15 <= max(lengths) <= 30


def test_no_sentence_is_held_out_and_trained_on(default):
    sources = [row["source"] for rows in default.values() for row in rows]
    assert len(set(sources)) == len(sources)


@pytest.mark.parametrize("side", ["source", "target"])
def test_every_word_of_held_out_sentences_is_trained_on(default, side):
    known, *held_out = ({word for row in rows for word in re.findall(r"\w+", row[side])} for rows in default.values())
    for vocabulary in held_out:
        assert vocabulary <= known


def test_equal_numeric_forms_are_left_out(default):
    for rows in default.values():
        for row in rows:
            assert row["source"] != row["target"] or re.search(r"[^\W\d_]", row["source"])


def test_the_same_options_give_the_same_data(tmp_path):
    first, again, other = (make(tmp_path, **SMALL, seed=seed) for seed in (1, 1, 2))
    assert list(first.read("test")) == list(again.read("test"))
    assert first.fingerprint("test") == again.fingerprint("test")
    assert list(other.read("test")) != list(first.read("test"))
    assert other.fingerprint("test") != first.fingerprint("test")
    assert first.fingerprint("test") != first.fingerprint("train")


def test_text_is_real(default):
    pairs = {row["source"]: row["target"] for rows in default.values() for row in rows}
    assert any("Österreich" in target for source, target in pairs.items() if "Austria" in source)
    assert all("Donnerstag" in target for source, target in pairs.items() if "Thursday" in source)


@given(
    st.lists(
        st.sampled_from(["en", "de", "fr", "ja", "zh_TW", "ar", "th", "hi", "fi", "pt-BR", "nv", "wa", "sr_Latn"]),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
@settings(max_examples=6)
def test_any_pair_of_locales(tmp_path_factory, locales):
    source, target = locales
    reader = make(tmp_path_factory.mktemp("cldr"), source=source, target=target, **SMALL)
    rows = {split: [tuple(row.values()) for row in reader.read(split)] for split in reader.splits()}
    assert {split: len(pairs) for split, pairs in rows.items()} == SMALL
    for side in (0, 1):
        known = words(pair[side] for pair in rows["train"])
        assert words(pair[side] for pair in rows["test"] + rows["validation"]) <= known


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "dee"}, r"data\.source +babel knows no locale 'dee'; did you mean .*'de'"),
        ({"target": "no such"}, r"data\.target +babel knows no locale 'no such'"),
        ({"target": "en"}, r"data\.target +'en' is the source too"),
        ({"train": 0}, r"data\.train"),
        ({"sauce": "en"}, r"data\.sauce .*did you mean 'source'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, **options)


def test_too_much_asked_of_a_pair_of_locales(tmp_path, monkeypatch):
    monkeypatch.setattr("attnbuild.tasks.translation.cldr._PATIENCE", 0)
    with pytest.raises(ConfigError, match=r"data\.train +cldr en-de has no more than 0 such sentences"):
        list(make(tmp_path, **SMALL).read("train"))
