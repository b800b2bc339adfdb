"""Encoded corpora: what they hold, and that the cache is safe."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.data.cache import cached_folder, content_hash
from attnbuild.data.corpus import Corpus, encode
from attnbuild.data.place import TokenizerPlace, default_cache_dir
from attnbuild.data.ragged import RaggedArray, RaggedWriter
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers import train_vocabularies
from attnbuild.errors import DataError
from attnbuild.registry import build


def sides_of(vocabularies):
    return TextSide(vocabularies[0]), TextSide(vocabularies[1], begin=True)


@pytest.fixture
def make_corpus(parallel, tmp_path):
    """Encodes the training split of parallel files with a tokenizer of words."""

    def make(source=None, target=None, max_length=256, reader=None):
        reader = reader or parallel(source, target)
        tokenizer = build("tokenizer", TokenizerPlace(tmp_path), {"type": "word"}, "tokenizer")
        vocabularies = train_vocabularies(tokenizer, reader, tmp_path / "c")
        sides = sides_of(vocabularies)
        return encode(reader, "train", sides, cache_dir=tmp_path / "c", max_length=max_length), vocabularies

    return make


def test_holds_ids_lengths_and_raw_text(make_corpus):
    corpus, (vocabulary, _) = make_corpus(b" a b\nc d  e f\n", "ü\nä ß\n".encode())
    assert len(corpus) == 2
    assert corpus.widths.dtype == np.int32
    assert corpus.widths.tolist() == [[3, 2], [6, 3]]
    assert corpus.texts([1, 0]) == (["c d  e f", "a b"], ["ä ß", "ü"])
    source, target = corpus.rows([1, 0])
    assert [row.tolist() for row in source] == vocabulary.encode(["c d  e f", "a b"])
    assert [row.tolist() for row in target] == vocabulary.encode(["ä ß", "ü"])
    assert source[0].dtype == np.int32


def test_training_drops_and_counts_long_and_empty_rows(make_corpus):
    corpus, _ = make_corpus(b"a b\na b c d\n\nb\n", b"a\na\na\na b c d e\n", max_length=4)
    assert (len(corpus), corpus.too_long, corpus.skipped) == (1, 2, 1)
    assert corpus.texts([0])[0] == ["a b"]
    with pytest.raises(
        DataError, match=r"all 1 examples of train are longer than 1 tokens: set batch.max_length=3 or more"
    ):
        make_corpus(b"a b\n", b"a\n", max_length=1)


def test_evaluation_keeps_long_rows(parallel, tmp_path, make_corpus):
    _, vocabularies = make_corpus()
    for language in ("en", "de"):
        (tmp_path / f"dev.{language}").write_text("a b c d e\n", encoding="utf-8")
    reader = parallel(validation="dev")
    corpus = encode(reader, "validation", sides_of(vocabularies), cache_dir=tmp_path / "c", max_length=2)
    assert (len(corpus), corpus.too_long) == (1, 0)


def test_a_second_time_comes_from_the_cache(make_corpus, parallel):
    first, _ = make_corpus(b"a\n\nb\n", b"a\nb\nc\n")
    reader = parallel(b"a\n\nb\n", b"a\nb\nc\n")
    reader.rows = None  # nothing is read again
    second, _ = make_corpus(reader=reader)
    assert second.texts([0, 1]) == first.texts([0, 1])
    assert second.skipped == 1


def test_a_failure_leaves_nothing_behind(make_corpus, parallel, tmp_path):
    _, vocabularies = make_corpus()
    before = set((tmp_path / "c" / "corpora").iterdir())
    with pytest.raises(DataError, match=r"train\.en:2"):
        encode(parallel(b"a\nb\n", b"a\n"), "train", sides_of(vocabularies), cache_dir=tmp_path / "c", max_length=9)
    assert set((tmp_path / "c" / "corpora").iterdir()) == before


def test_another_process_maps_the_same_files(make_corpus):
    corpus, _ = make_corpus()
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    assert pickle.loads(data).texts([2]) == corpus.texts([2])


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=8), st.integers(1, 4))
def test_ragged_arrays_give_back_their_rows(tmp_path_factory, rows, chunk):
    stem = tmp_path_factory.mktemp("ragged") / "a"
    with RaggedWriter(stem, np.int32) as writer:
        for start in range(0, len(rows), chunk):
            writer.extend([np.array(row, np.int32) for row in rows[start : start + chunk]])
        writer.extend([])
    array = RaggedArray(stem, np.int32)
    assert [array[index].tolist() for index in range(len(array))] == rows
    assert array.lengths().tolist() == [len(row) for row in rows]


def test_the_hash_knows_where_texts_end():
    assert content_hash("ab", "c") != content_hash("a", "bc")
    assert content_hash("ab") != content_hash("ab", "")


def _make_entry(parent, barrier, results):
    def make(folder):
        (folder / "a").write_text("whole", encoding="utf-8")
        barrier.wait(timeout=30)

    folder = cached_folder(parent, "key", make)
    results.put((folder / "a").read_text(encoding="utf-8"))


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_make_entry, args=(tmp_path, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=30) for _ in workers] == ["whole", "whole"]
    for worker in workers:
        worker.join()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="cannot write the cache .*; set ATTNBUILD_CACHE"):
        cached_folder(tmp_path / "file", "key", lambda folder: None)


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNBUILD_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("ATTNBUILD_CACHE")
    assert default_cache_dir().name == "attnbuild"


def test_multi30k_fits(real_data, make_reader, tmp_path):
    reader = make_reader(type="text", root=str(real_data / "multi30k"), train="val", validation=None, test=None)
    tokenizer = build("tokenizer", TokenizerPlace(tmp_path), {"type": "bpe"}, "tokenizer")
    vocabularies = train_vocabularies(tokenizer, reader, tmp_path)
    corpus = encode(reader, "train", sides_of(vocabularies), cache_dir=tmp_path, max_length=256)
    assert isinstance(corpus, Corpus)
    source, target = corpus.rows(range(len(corpus)))
    texts = corpus.texts(range(len(corpus)))
    for vocabulary, rows, lines in zip(vocabularies, (source, target), texts, strict=True):
        assert vocabulary.decode(rows) == lines
