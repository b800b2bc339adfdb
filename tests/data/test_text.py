"""Parallel text files, good and bad."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest

from attnbuild.data.readers import files
from attnbuild.errors import DataError


def pairs(reader, split="train"):
    return [(row["source"], row["target"]) for row in reader.read(split)]


def test_reads_pairs_in_order(parallel):
    reader = parallel(b"one\ntwo\n", "eins\nzwei ü\n".encode())
    assert pairs(reader) == [("one", "eins"), ("two", "zwei ü")]
    assert reader.splits() == ("train",)
    assert reader.name == "text en-de"


def test_takes_line_ends_marks_and_a_missing_last_line_feed(parallel):
    reader = parallel(b"\xef\xbb\xbfone\r\ntwo", b"eins\nzwei\r\n")
    assert pairs(reader) == [("one", "eins"), ("two", "zwei")]


def test_only_a_line_feed_ends_a_line(parallel):
    reader = parallel("a\u2028b\x0bc\rd\ntwo\n".encode(), b"eins\nzwei\n")
    assert pairs(reader)[0] == ("a\u2028b\x0bc\rd", "eins")


def test_reads_gzip_by_the_plain_name(parallel, tmp_path):
    reader = parallel(b"one\n", b"eins\n")
    (tmp_path / "train.en").unlink()
    (tmp_path / "train.en.gz").write_bytes(gzip.compress(b"one\n"))
    assert pairs(reader) == [("one", "eins")]


def test_truncated_gzip_names_the_file(parallel, tmp_path):
    reader = parallel(b"one\n", b"eins\n")
    (tmp_path / "train.en").unlink()
    (tmp_path / "train.en.gz").write_bytes(gzip.compress(b"one\n" * 1000)[:-12])
    with pytest.raises(DataError, match=r"train\.en\.gz: cannot be read after line"):
        pairs(reader)


def test_counts_empty_sides(parallel):
    reader = parallel(b"one\n\n \nfour\n", b"eins\nzwei\n\n\n")
    assert pairs(reader) == [("one", "eins")]
    assert reader.skipped() == {"train": 3}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (b"1\n2\n3\n4\n", b"1\n2\n", r"train\.en:3: .*train\.en has 4 lines, train\.de has 2"),
        (b"1\n", b"1\n2\n", r"train\.de:2: .*train\.de has 2 lines, train\.en has 1"),
        (b"1\n2\n", b"1\nstra\xdfe\n", r"train\.de:2: not UTF-8: byte 0xdf at position 5; .*iconv"),
        ("a\n".encode("utf-16"), b"a\n", r"train\.en:1: not UTF-8: byte 0xff"),
        (b"", b"", r"text en-de: no example in train: it is empty \(.*train\.en and .*train\.de\)"),
        (b"\n\n", b"a\nb\n", r"no example in train: only 2 rows with an empty side"),
    ],
)
def test_bad_files_are_named_with_line(parallel, source, target, message):
    with pytest.raises(DataError, match=message):
        pairs(parallel(source, target))


def test_missing_file_says_what_was_tried_and_whence(make_reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNBUILD_DATA", "/nowhere/data")
    with pytest.raises(DataError) as caught:
        pairs(make_reader(type="text"))
    message = str(caught.value)
    assert "'train.en' (from data.train)" in message
    assert "/nowhere/data/train.en (from $ATTNBUILD_DATA)" in message
    assert f"{tmp_path}/train.en (from the working directory)" in message

    with pytest.raises(DataError, match=r"/elsewhere/train\.en \(from data\.root\)"):
        pairs(make_reader(type="text", root="/elsewhere"))

    monkeypatch.delenv("ATTNBUILD_DATA")
    with pytest.raises(DataError, match=r"neither data\.root nor \$ATTNBUILD_DATA is set"):
        pairs(make_reader(type="text"))


def test_root_comes_before_the_working_directory(parallel, tmp_path, monkeypatch):
    reader = parallel(b"one\n", b"eins\n")
    here = tmp_path / "here"
    here.mkdir()
    for language in ("en", "de"):
        (here / f"train.{language}").write_bytes(b"wrong\n")
    monkeypatch.chdir(here)
    assert pairs(reader) == [("one", "eins")]


def test_unknown_split_is_refused(parallel):
    with pytest.raises(DataError, match="no split 'test', only train"):
        pairs(parallel(), "test")


def test_fingerprint_follows_content_not_path_or_time(parallel, tmp_path):
    first = parallel(b"one\n", b"eins\n").fingerprint("train")
    assert parallel(b"one\n", b"eins\n").fingerprint("train") == first
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").rename(tmp_path / f"other.{language}")
    renamed = parallel(b"two\n", b"zwei\n", train="other")
    assert renamed.fingerprint("train") == first
    assert parallel(b"two\n", b"eins\n").fingerprint("train") != first
    # The border between the two files counts.
    assert parallel(b"a\n", b"").fingerprint("train") != parallel(b"", b"a\n").fingerprint("train")


def test_reads_lazily(parallel, monkeypatch):
    reader = parallel(b"a\n" * 5, b"a\n" * 5)

    def endless(path):
        yield from itertools.repeat(path.name)

    monkeypatch.setattr("attnbuild.data.readers.text.read_lines", endless)
    rows = list(itertools.islice(reader.read("train"), 3))
    assert rows == [{"source": "train.en", "target": "train.de"}] * 3


def test_multi30k(real_data: Path, make_reader):
    reader = make_reader(type="text", root=str(real_data / "multi30k"), validation="val", test="test_2016_flickr")
    counts = {split: sum(1 for _ in reader.read(split)) for split in reader.splits()}
    assert counts == {"train": 29000, "validation": 1014, "test": 1000}
    assert not any(reader.skipped().values())


def test_hash_of_an_unreadable_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        files.hash_file(tmp_path)
