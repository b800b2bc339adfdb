"""A pretrained model's tokens under our ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild import ConfigError
from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.pretrained import SHIFT, PretrainedTokenizer
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Vocabulary
from attnbuild.registry import build
from tests.encoders.tiny_models import save_bert, save_roberta, save_t5

pytest.importorskip("transformers")
SAVES = {"bert": save_bert, "roberta": save_roberta, "t5": save_t5}


def make(path: Path) -> PretrainedTokenizer:
    return build("tokenizer", TokenizerPlace(path), {"type": "pretrained", "path": str(path)}, "tokenizer")


@pytest.fixture(scope="module", params=SAVES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, Any]:
    """Our vocabulary and the model's tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    _, theirs = SAVES[request.param](folder)
    return make(folder).train([]), theirs


def test_has_all_tokens_and_our_special_ones(pair: tuple[Vocabulary, Any]) -> None:
    ours, theirs = pair
    assert len(ours) == len(theirs) + SHIFT
    assert ours.tokens([PAD, BOS, EOS, UNK]) == list(SPECIAL_TOKENS)


@settings(max_examples=60)
@given(data=st.data())
def test_ids_are_the_model_s_shifted(pair: tuple[Vocabulary, Any], data: st.DataObject) -> None:
    """Whatever the text; the unknown is ours, and the model's own special tokens are text like any other."""
    ours, theirs = pair
    words = st.sampled_from(["the", "The", "cat", "mats", "unhappy", "[SEP]", "</s>", "<pad>", "<unk>", "é", "x", "😀"])
    text = " ".join(data.draw(st.lists(words | st.text(max_size=4), max_size=6)))
    found = ours.encode([text])[0]
    assert not {PAD, BOS, EOS}.intersection(found)
    assert len(found) == 0 or max(found) < len(ours)
    special = [token for token in theirs.all_special_tokens if token in text]
    names = [name for name in SPECIAL_TOKENS if name in text]
    if not special and not names:
        unknown = theirs.unk_token_id
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert found == [UNK if token == unknown else token + SHIFT for token in expected]
        assert ours.decode([found])[0] == theirs.decode(expected, clean_up_tokenization_spaces=False).replace(
            theirs.unk_token, "<unk>"
        )


def test_special_names_in_a_text_are_text(pair: tuple[Vocabulary, Any]) -> None:
    ours, theirs = pair
    model_special = {token + SHIFT for token in theirs.all_special_ids} - {theirs.unk_token_id + SHIFT}
    found = ours.encode(["<pad> </s> <s> [CLS] [SEP] the<pad>the"])[0]
    assert not {PAD, BOS, EOS}.intersection(found)
    assert not model_special.intersection(found)


def test_is_restored_from_its_json_alone(pair: tuple[Vocabulary, Any]) -> None:
    ours, _ = pair
    again = Vocabulary.from_json(ours.to_json())
    assert again.encode(["the cat sat"]) == ours.encode(["the cat sat"])


def test_one_vocabulary_for_both_sides_and_a_fingerprint_of_its_tokens(tmp_path: Path) -> None:
    save_bert(tmp_path / "a")
    save_roberta(tmp_path / "b")
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    assert first.joint
    assert first.size_hint() == len(first.train([]))
    assert first.fingerprint() == make(tmp_path / "a").fingerprint() != second.fingerprint()


def test_ids_with_gaps_are_refused(tmp_path: Path) -> None:
    save_bert(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"]["dog"] = 40
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"tokenizer\.path .*have gaps"):
        make(tmp_path).train([])


def test_a_path_with_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.path .*cannot be read"):
        make(tmp_path / "nothing").train([])
