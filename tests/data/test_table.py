"""Tables, good and bad."""

from __future__ import annotations

import json

import pytest

from attnbuild.errors import DataError


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
        ("a.csv", "", r"no sentence pair in train: it is empty \(.*a\.csv\)"),
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
