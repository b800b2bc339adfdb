"""Every tokenizer: exact text back where it claims to lose nothing, readable labels, and the cache."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers import BOS, EOS, PAD, UNK, Vocabulary, train_vocabularies
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS
from attnbuild.errors import CheckpointError, ConfigError, DataError
from attnbuild.registry import build, names

LINES = [
    "Zwei Männer gehen über die lange Straße.",
    "A man (old) is walking along the long street, isn't he?",
    "Die Straße ist 12,5 km lang;  der Mann ist müde!",
    "3:45 PM \u2013 “Straße” … 5\u202fkm\ta",
] * 5
SIZES = {"bpe": 400, "unigram": 120}
LOSSLESS = ["bpe", "byte"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

#: Those that are trained.
KINDS = ["bpe", "byte", "char", "unigram", "word"]


def make(name, **options):
    if name in SIZES:
        options = {"vocab_size": SIZES[name], **options}
    return build("tokenizer", TokenizerPlace(cache_dir=None), {"type": name, **options}, "tokenizer")


@pytest.fixture(scope="module")
def vocabularies():
    return {name: make(name).train(LINES) for name in KINDS}


def test_all_kinds_are_registered():
    assert names("tokenizer") == sorted([*KINDS, "pretrained"])  # which is tested in test_pretrained_tokenizer.py


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_and_size(vocabularies, name):
    vocabulary = vocabularies[name]
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert tuple(vocabulary.tokens(range(4))) == SPECIAL_TOKENS
    assert 4 < len(vocabulary) <= make(name).size_hint()


@pytest.mark.parametrize("name", KINDS)
def test_known_text_comes_back_exactly(vocabularies, name):
    vocabulary = vocabularies[name]
    ids = vocabulary.encode(LINES)
    assert all(min(row) > UNK for row in ids)
    assert vocabulary.decode(ids) == LINES
    padded = [[BOS, *row, EOS, PAD, PAD] for row in ids]
    assert vocabulary.decode(padded) == LINES


@pytest.mark.parametrize("name", LOSSLESS)
@given(text=TEXT)
@settings(max_examples=100)
def test_any_text_comes_back_exactly(vocabularies, name, text):
    vocabulary = vocabularies[name]
    assert vocabulary.decode(vocabulary.encode([text])) == [text]


@pytest.mark.parametrize("name", ["unigram", "word", "char"])
@given(text=TEXT)
@settings(max_examples=100)
def test_only_the_unknown_is_lost(vocabularies, name, text):
    vocabulary = vocabularies[name]
    ids = vocabulary.encode([text])[0]
    if UNK not in ids:
        assert vocabulary.decode([ids]) == [text]


@pytest.mark.parametrize("name", KINDS)
@given(text=TEXT)
@settings(max_examples=50)
def test_every_id_has_a_label_and_text_gives_no_special_id(vocabularies, name, text):
    ids = vocabularies[name].encode([f"<s>{text}</s><pad>"])[0]
    assert not {PAD, BOS, EOS} & set(ids)
    labels = vocabularies[name].tokens(ids)
    assert len(labels) == len(ids)
    assert all(labels)


def test_words_split_and_unknown_words_show(vocabularies):
    words = vocabularies["word"]
    ids = words.encode(["Der Mann (old) schläft, ist müde."])[0]
    assert words.tokens(ids) == ["<unk>", "▁Mann", "▁(", "old", ")", "<unk>", ",", "▁ist", "▁müde", "."]
    assert words.decode([ids]) == ["<unk> Mann (old) <unk>, ist müde."]


def test_labels_are_readable(vocabularies):
    for name in ("bpe", "unigram"):
        labels = vocabularies[name].tokens(vocabularies[name].encode(["Die Straße über müde"])[0])
        assert "".join(labels) == "▁Die▁Straße▁über▁müde"
    byte = vocabularies["byte"]
    assert byte.tokens(byte.encode(["a ü\0"])[0]) == ["a", "▁", "<0xC3>", "<0xBC>", "<0x00>"]
    with pytest.raises(IndexError, match="no token has the id 99999"):
        byte.tokens([99999])


@pytest.mark.parametrize("name", KINDS)
def test_labels_of_a_text_are_those_of_its_tokens(name, vocabularies):
    vocabulary = vocabularies[name]
    for text in (*LINES[:4], "", "a  b"):
        (ids,) = vocabulary.encode([text])
        assert vocabulary.labels(text) == vocabulary.tokens(ids) or UNK in ids
        assert len(vocabulary.labels(text)) == len(ids)


def test_an_unknown_word_shows_as_it_was_written(vocabularies):
    assert vocabularies["word"].labels("A xyzzy is walking, plugh?")[1] == "▁xyzzy"
    assert vocabularies["char"].labels("man☃")[-1] == "☃"


def test_a_word_is_the_same_at_the_start_of_a_sentence(vocabularies):
    for name in ("bpe", "unigram", "word"):
        start, later = vocabularies[name].encode(["Straße", "die Straße"])
        assert later[-len(start) :] == start


@pytest.mark.parametrize("name", KINDS)
def test_lowercase(name):
    vocabulary = make(name, lowercase=True).train(LINES)
    assert vocabulary.decode(vocabulary.encode([LINES[0]])) == [LINES[0].lower()]


@pytest.mark.parametrize("name", KINDS)
def test_json_carries_everything(vocabularies, name):
    text = vocabularies[name].to_json()
    copy = Vocabulary.from_json(text)
    assert copy.to_json() == text
    sample = [*LINES, "<s> neu </s>"]
    assert copy.encode(sample) == vocabularies[name].encode(sample)
    assert copy.decode(copy.encode(LINES)) == LINES


def test_damaged_json_is_refused(vocabularies):
    text = vocabularies["word"].to_json()
    with pytest.raises(CheckpointError, match="the tokenizer cannot be read"):
        Vocabulary.from_json(text[: len(text) // 2])
    other = json.loads(text)
    other["model"]["vocab"] = {"a": 0, "<unk>": 1}
    other["added_tokens"] = []
    with pytest.raises(CheckpointError, match="not a tokenizer of attnbuild"):
        Vocabulary.from_json(json.dumps(other))


def test_options_are_held_to_their_ranges():
    with pytest.raises(ConfigError, match="tokenizer.vocab_size"):
        make("bpe", vocab_size=10)
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size +10 pieces cannot hold all characters"):
        make("unigram", vocab_size=10).train(LINES)


def test_vocabularies_of_a_reader_are_cached(parallel, tmp_path):
    reader = parallel()
    joint = train_vocabularies(make("word"), reader, tmp_path)
    assert joint[0] is joint[1]
    source, target = train_vocabularies(make("word", joint=False), reader, tmp_path)
    assert UNK in source.encode(["Zwei Männer"])[0]
    assert UNK not in target.encode(["Zwei Männer"])[0]
    assert len(list((tmp_path / "vocabularies").iterdir())) == 2

    reader.rows = None  # nothing is read again
    again = train_vocabularies(make("word", joint=False), reader, tmp_path)
    assert [item.to_json() for item in again] == [source.to_json(), target.to_json()]


def test_bad_data_is_reported_as_such(parallel, tmp_path):
    with pytest.raises(DataError, match=r"train\.en:2"):
        train_vocabularies(make("bpe"), parallel(b"a\n\xff\n", b"a\nb\n"), tmp_path)
    assert not list((tmp_path / "vocabularies").iterdir())


def test_training_is_the_same_every_time():
    for name in ("bpe", "byte", "char", "word"):
        assert make(name).train(LINES).to_json() == make(name).train(iter(LINES)).to_json()
