"""The embedded texts keep their promises."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from babel import Locale

from attnbuild.data.phrases import Phrases
from attnbuild.data.place import DataPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import build
from attnbuild.tasks.classification.cldr_languages import LANGUAGES, CldrLanguagesReader

SMALL = {"train": 300, "validation": 20, "test": 40}


def make(tmp_path, **options) -> CldrLanguagesReader:
    return build("data", DataPlace(tmp_path, seed=1), {"type": "cldr_languages", **options}, "data")


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """All splits of the default data."""
    reader = make(tmp_path_factory.mktemp("languages"))
    return {split: list(reader.read(split)) for split in reader.splits()}


def test_default_data(default):
    assert {split: len(rows) for split, rows in default.items()} == {"train": 8000, "validation": 500, "test": 1000}
    for rows in default.values():
        counts = Counter(row["target"] for row in rows)
        assert set(counts) == set(LANGUAGES)
        assert min(counts.values()) > len(rows) / 20 / 4
    assert (CldrLanguagesReader.source_modality({}), CldrLanguagesReader.targets) == ("text", ("labels",))


def test_no_text_is_in_two_splits_or_languages(default):
    texts = [row["source"] for rows in default.values() for row in rows]
    assert len(set(texts)) == len(texts)


def test_no_other_language_says_it_so(default):
    """By all names of territories, which are the texts that languages share most."""
    said = Counter(name for language in LANGUAGES for name in set(Locale.parse(language).territories.values()))
    texts = {row["source"]: row["target"] for rows in default.values() for row in rows}
    names = set(texts) & set(said)
    assert len(names) > 1000
    assert all(said[name] == 1 and name in Locale.parse(texts[name]).territories.values() for name in names)


def test_labels_are_right(default):
    rows = [row for split in default.values() for row in split]
    months = {"de": ["Januar ", "Dezember "], "fr": [" janvier ", " août "], "pl": [" stycznia ", " grudnia "]}
    for language, names in months.items():
        assert {row["target"] for row in rows if any(name in row["source"] for name in names)} == {language}
    assert all(any(map(str.isalpha, row["source"])) for row in rows)


def test_the_same_options_give_the_same_data(tmp_path):
    first, again, other = (make(tmp_path, **SMALL, locales=["de", "nl"], seed=seed) for seed in (1, 1, 2))
    assert list(first.read("test")) == list(again.read("test"))
    assert first.fingerprint("test") == again.fingerprint("test")
    assert list(other.read("test")) != list(first.read("test"))
    assert len({reader.fingerprint(split) for reader in (first, other) for split in first.splits()}) == 6


def test_locales_with_little_to_say(tmp_path):
    """wa names neither territories nor units: dates are left."""
    rows = list(make(tmp_path, **SMALL, locales=["wa", "nv", "de"]).read("train"))
    assert len(rows) == 300
    assert not Phrases((Locale("wa"), Locale("de")), random.Random(0), ("long",)).territories


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"locales": ["de", "dee"]}, r"data\.locales +babel knows no locale 'dee'; did you mean"),
        ({"locales": ["de"]}, r"data\.locales +\['de'\]: name at least two locales, each once"),
        ({"locales": ["de", "de"]}, r"data\.locales .*each once"),
        ({"locales": ["pt-BR", "pt_BR"]}, r"data\.locales .*each once"),
        ({"train": 0}, r"data\.train"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, **options)


def test_too_much_asked_of_the_locales(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"data\.train +these languages have no more than \d+ such texts to say: set it to \d+ or less",
    ):
        list(make(tmp_path, **{**SMALL, "train": 30_000}, locales=["de", "de_CH"]).read("train"))
