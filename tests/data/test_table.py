"""Tables, good and bad."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from attnbuild.errors import ConfigError, DataError


@pytest.fixture
def table(tmp_path, make_reader):
    """Writes a training table and builds its reader."""

    def write(name: str, content: bytes | str, **options: object):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        options = {"root": str(tmp_path), "validation": None, "test": None, **options}
        return make_reader(type="table", train=name, **options)

    return write


def pairs(reader):
    return [(row["source"], row["target"]) for row in reader.read("train")]


def test_csv(table):
    reader = table("a.csv", '\ufeffid,target,source\r\n1,"eins, ""ja""","one,\nyes"\r\n2,,two\r\n\r\n3,drei,three\r\n')
    assert pairs(reader) == [("one,\nyes", 'eins, "ja"'), ("three", "drei")]
    assert reader.skipped() == {"train": 2}


def test_tsv_has_no_quoting(table):
    assert pairs(table("a.tsv", 'source\ttarget\n"one\teins"\n')) == [('"one', 'eins"')]


def test_jsonl_with_nested_columns(table):
    rows = [{"translation": {"en": "one", "de": "eins"}}, {"translation": {"en": None, "de": "zwei"}}, None]
    lines = "\n".join(json.dumps(row) if row else "" for row in rows)
    reader = table("a.jsonl", lines + "\n\n", source="translation.en", target="translation.de")
    assert pairs(reader) == [("one", "eins")]
    assert reader.skipped() == {"train": 3}


def test_parquet_with_nested_columns(table, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": n, "translation": {"en": f"row {n}", "de": f"Zeile {n}"}} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=2)
    content = (tmp_path / "b.parquet").read_bytes()
    reader = table("a.parquet", content, source="translation.en", target="translation.de")
    assert pairs(reader) == [(f"row {n}", f"Zeile {n}") for n in range(5)]
    with pytest.raises(DataError, match="no column 'translation.fr'; the columns are: translation.en, translation.de"):
        pairs(table("a.parquet", content, source="translation.en", target="translation.fr"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "src,tgt\n1,2\n", r"a\.csv:1: no column 'source'; the columns are: src, tgt; .*data\.source"),
        ("a.csv", "source,target\none,eins\ntwo\n", r"a\.csv:3: 1 cells, but the header has 2"),
        ("a.csv", 'source,target\n"one,eins\n', r"a\.csv:\d: unexpected end of data"),
        ("a.csv", "", r"no example in train: it is empty \(.*a\.csv\)"),
        ("a.csv", b"source,target\n\xff,b\n", r"a\.csv:2: not UTF-8"),
        ("a.jsonl", '{"source": "a", "target": "b"}\n{"source": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: expected a JSON object, found list"),
        ("a.jsonl", '{"source": 1, "target": "b"}\n', r"a\.jsonl:1: column 'source' holds int, not text: 1"),
        ("a.jsonl", '{"source": "a"}\n', r"a\.jsonl:1: no column 'target'; the columns are: source"),
        ("a.parquet", b"nothing", r"a\.parquet: not a readable parquet file"),
        ("a.xlsx", b"", r"a\.xlsx: unknown kind of table; set data\.format"),
    ],
)
def test_bad_tables_are_named_with_line(table, name, content, message):
    with pytest.raises(DataError, match=message):
        pairs(table(name, content))


def test_parquet_without_the_column(table, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"en": ["a"], "de": ["b"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="no column 'source'; the columns are: en, de"):
        pairs(table("a.parquet", (tmp_path / "b.parquet").read_bytes()))


def test_format_can_be_said(table):
    assert pairs(table("a.txt", "source\ttarget\none\teins\n", format="tsv")) == [("one", "eins")]


def test_missing_file(make_reader, tmp_path):
    with pytest.raises(DataError, match=r"no file 'train\.csv' \(from data\.train\)"):
        pairs(make_reader(type="table", root=str(tmp_path)))


def test_fingerprint_follows_content_and_columns(table):
    text = "source,target,other\na,b,c\n"
    first = table("a.csv", text).fingerprint("train")
    assert table("b.csv", text).fingerprint("train") == first
    assert table("b.csv", text, target="other").fingerprint("train") != first
    assert table("b.csv", text + "d,e,f\n").fingerprint("train") != first


def test_labels_of_any_type(table):
    cells = ["cat", 3, 2.5, True, None, float("nan"), ["a", 1, None], []]
    lines = "\n".join(json.dumps({"source": "text", "target": cell}) for cell in cells)
    assert [target for _, target in pairs(table("a.jsonl", lines))] == ["cat", "3", "2.5", "True", ["a", "1"]]
    with pytest.raises(DataError, match=r"a\.jsonl:1: column 'target' holds dict, neither text nor a label"):
        pairs(table("a.jsonl", '{"source": "a", "target": {"b": 1}}'))


def test_label_names(table):
    names = {"label_names": ["bad", "good"]}
    content = gzip.compress(b"source,target\none,0\ntwo,1\nthree,\nfour,-1\n")
    reader = table("a.csv.gz", content, **names)
    assert pairs(reader) == [("one", "bad"), ("two", "good")]
    assert reader.fingerprint("train") != table("a.csv.gz", content).fingerprint("train")
    for bad in ("2", "good", "-2", "0.5"):
        with pytest.raises(DataError, match=rf"a\.csv:2: column 'target' holds '{bad}'; the labels go from 0 to 1"):
            pairs(table("a.csv", f"source,target\none,{bad}\n", **names))


def test_pairs_of_texts(table):
    text = "source,other,target\na,b,yes\nc,,no\n"
    reader = table("a.csv", text, pair="other")
    assert pairs(reader) == [(("a", "b"), "yes")]
    assert reader.fingerprint("train") != table("a.csv", text).fingerprint("train")
    with pytest.raises(DataError, match=r"a\.csv:1: no column 'second'; .*data\.pair"):
        pairs(table("a.csv", text, pair="second"))
    with pytest.raises(ConfigError, match=r"data\.pair +a picture has no second text"):
        table("a.csv", text, pair="other", pictures=True)


def test_pictures_beside_the_table_or_under_the_root(table, tmp_path):
    (tmp_path / "deep" / "images").mkdir(parents=True)
    for path in ("deep/images/a.png", "b.png"):
        Image.new("L", (4, 4), len(path)).save(tmp_path / path)
    text = "source,target\nimages/a.png,cat\nb.png,dog\n,fish\n"
    reader = table("deep/t.csv", text, pictures=True)
    assert reader.source_modality({"pictures": True}) == "image"
    rows = list(reader.read("train"))
    assert [(row["source"].load(2, 1, "crop")[0, 0, 0], row["target"]) for row in rows] == [(17, "cat"), (5, "dog")]
    assert rows[0]["source"].name == f"{tmp_path}/deep/t.csv:2: images/a.png"
    first = reader.fingerprint("train")
    Image.new("L", (4, 4), 99).save(tmp_path / "b.png")
    assert reader.fingerprint("train") != first
    with pytest.raises(DataError, match=r"t\.csv:2: no picture file 'c\.png': tried .*/deep/c\.png and .*/c\.png"):
        pairs(table("deep/t.csv", "source,target\nc.png,cat\n", pictures=True))


def test_cifar10_as_parquet(make_reader, real_data: Path):
    """Images in cells, class names in the file's own description."""
    reader = make_reader(
        type="table", source="img", target="label", pictures=True, root=str(real_data / "cifar10"),
        train="train.parquet", validation=2000, test="test.parquet",
    )  # fmt: skip
    rows = list(reader.read("test"))
    assert len(rows) == 4000
    assert {row["target"] for row in rows} == {
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    }
    assert rows[7]["source"].load(32, 3, "crop").shape == (3, 32, 32)
