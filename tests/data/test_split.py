"""Validation and test held out of train: disjoint, complete, the same in every run."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.data.readers.split import SplitReader
from attnbuild.errors import ConfigError, DataError


class Listed(SplitReader):
    """Rows from a list."""

    def __init__(self, rows, validation, test, own=()):
        super().__init__("listed", "rows", validation, test)
        self._stored_rows = {"train": rows, "test": list(own)}

    def stored_rows(self, split):
        return iter(self._stored_rows[split])


ROWS = [(f"text {n}", f"label {n % 3}") for n in range(200)]


def sources(reader, split):
    return [row["source"] for row in reader.read(split)]


@given(
    validation=st.one_of(st.none(), st.integers(1, 60), st.floats(0.01, 0.4)),
    test=st.one_of(st.none(), st.integers(1, 60), st.floats(0.01, 0.4)),
)
def test_every_row_is_in_one_split(validation, test):
    reader = Listed(ROWS, validation, test)
    found = {split: sources(reader, split) for split in reader.splits()}
    assert sorted(itertools.chain(*found.values())) == sorted(source for source, _ in ROWS)
    for split, amount in (("validation", validation), ("test", test)):
        assert (split in found) == (amount is not None)
        if amount is not None:
            assert len(found[split]) == (amount if isinstance(amount, int) else max(1, round(amount * 200)))
    # What is read keeps the order of the data.
    assert found["train"] == [source for source, _ in ROWS if source in set(found["train"])]


@given(st.lists(st.sampled_from("abcdefghij"), min_size=40, max_size=60), st.randoms())
def test_equal_sources_stay_together_whatever_the_order(texts, draw):
    rows = [(text, "label") for text in texts] + [(f"other {n}", "label") for n in range(20)]
    first = Listed(rows, 0.2, 0.1)
    counts = [Counter(sources(first, split)) for split in first.splits()]
    assert sum((set(a) & set(b) != set() for a, b in itertools.combinations(counts, 2))) == 0
    draw.shuffle(rows)
    second = Listed(rows, 0.2, 0.1)
    assert [Counter(sources(second, split)) for split in second.splits()] == counts


def test_a_stored_test_split_is_left_alone():
    own = [(source, "label") for source in ("text 1", "text 2", "new")]
    reader = Listed(ROWS, 50, "mine", own)
    assert sources(reader, "test") == ["text 1", "text 2", "new"]
    assert len(sources(reader, "validation")) == 50
    assert set(sources(reader, "validation")) <= {source for source, _ in ROWS}


def test_rows_with_an_empty_side_do_not_count():
    reader = Listed([*ROWS, *[(None, "label"), ("text", None)] * 50], 20, None)
    assert len(sources(reader, "validation")) == 20
    assert len(sources(reader, "train")) == 180
    assert sum(reader.skipped().values()) == 100


def test_fingerprints_tell_splits_and_amounts_apart():
    hashes = [
        Listed(ROWS, *amounts).fingerprint(split)
        for amounts in ((20, 20), (30, 20))
        for split in ("train", "validation", "test")
    ]
    assert len(set(hashes)) == 6
    assert Listed(ROWS, 20, 20).fingerprint("test") == hashes[2]
    assert Listed(ROWS, None, None).fingerprint("train") not in hashes
    assert Listed(ROWS[1:], 20, 20).fingerprint("test") != hashes[2]


@pytest.mark.parametrize(
    ("validation", "test", "option"), [(200, None, "validation"), (150, 50, "test"), (1000, 1, "validation")]
)
def test_train_is_never_held_out_whole(validation, test, option):
    with pytest.raises(
        DataError, match=rf"listed: data\.{option}=\d+ leaves nothing of the 200 rows of train; lower it"
    ):
        sources(Listed(ROWS, validation, test), "train")


def test_tables_and_text_files_hold_out(make_reader, tmp_path):
    lines = [f"sentence {n}" for n in range(100)]
    (tmp_path / "train.en").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "train.de").write_text("\n".join(f"Satz {n}" for n in range(100)), encoding="utf-8")
    (tmp_path / "train.csv").write_text("source,target\n" + "\n".join(f"{line},1" for line in lines), encoding="utf-8")
    found = []
    for kind in ("text", "table"):
        reader = make_reader(type=kind, root=str(tmp_path), validation=0.1, test=None)
        found.append(sources(reader, "validation"))
        assert len(found[-1]) == 10
        assert not set(found[-1]) & set(sources(reader, "train"))
        assert reader.files("validation") == reader.files("train")
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.1, "train": None}, r"data\.validation +there is no training data to hold rows out of"),
        ({"validation": 0}, r"data\.validation"),
        ({"validation": 1.5}, r"data\.validation"),
        ({"test": -0.5}, r"data\.test"),
        ({"test": True}, r"data\.test"),
    ],
)
def test_wrong_amounts_are_refused(make_reader, options, message):
    with pytest.raises(ConfigError, match=message):
        make_reader(type="table", **options)
