"""BPE dropout: the same text in other pieces, as a draw decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.merge_dropout import MergeDropout
from attnbuild.data.tokenizers.vocabulary import EOS
from attnbuild.registry import build
from attnbuild.training.checkpoint import build_task
from tests.composing import config_of

LINES = [
    "Zwei Männer gehen über die lange Straße; der Mann ist müde!",
    "A man (old) is walking along the long street, isn't he?",
    "3:45 PM \u2013 “Straße” … 5\u202fkm\ta 12,5 km",
] * 5
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(LINES)


@pytest.fixture(scope="module")
def vocabulary() -> Any:
    tokenizer = build("tokenizer", TokenizerPlace(cache_dir=None), {"type": "bpe", "vocab_size": 400}, "tokenizer")
    return tokenizer.train(LINES)


def encoded(vocabulary: Any, text: str) -> np.ndarray:
    return np.array(vocabulary.encode([text])[0], np.int32)


@given(text=TEXT)
def test_without_dropout_words_are_cut_as_ever(vocabulary: Any, text: str) -> None:
    row = encoded(vocabulary, text)
    cut = MergeDropout(vocabulary, 0.0, 1000)(row, np.random.default_rng(0))
    assert cut.tolist() == row.tolist()


@given(text=TEXT, probability=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_the_text_stays(vocabulary: Any, text: str, probability: float, seed: int) -> None:
    row = np.append(encoded(vocabulary, text), EOS).astype(np.int32)
    cut = MergeDropout(vocabulary, probability, 1000)(row, np.random.default_rng(seed))
    assert cut.dtype == row.dtype
    assert cut[-1] == EOS
    assert len(cut) >= len(row)
    assert vocabulary.decode([cut]) == vocabulary.decode([row])


def test_a_draw_decides(vocabulary: Any) -> None:
    row = encoded(vocabulary, LINES[0])

    def cuts(seed: int) -> list[list[int]]:
        dropout, draw = MergeDropout(vocabulary, 0.3, 1000), np.random.default_rng(seed)
        return [dropout(row, draw).tolist() for _ in range(4)]

    assert cuts(1) == cuts(1)
    assert cuts(1) != cuts(2)
    assert len(set(map(tuple, cuts(1)))) > 1


def test_more_dropout_makes_more_pieces(vocabulary: Any) -> None:
    row = encoded(vocabulary, " ".join(LINES))
    lengths = [len(MergeDropout(vocabulary, p, 10_000)(row, np.random.default_rng(0))) for p in (0, 0.1, 0.5, 0.99)]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] > 0.9 * len(" ".join(LINES).encode())


def test_no_row_becomes_too_long(vocabulary: Any) -> None:
    row = encoded(vocabulary, LINES[0])
    assert MergeDropout(vocabulary, 0.5, len(row))(row, np.random.default_rng(0)).tolist() == row.tolist()


@pytest.mark.parametrize("words", [[], ["task=captioning", "tokenizer=bpe"]])
def test_batches_of_training_alone_are_cut_otherwise(words: list[str]) -> None:
    tokens = {}
    for dropout in (0.0, 0.5):
        small = ["data.train=40", "data.validation=20", "tokenizer.vocab_size=400"]
        task: Any = build_task(config_of([*words, *small, f"tokenizer.dropout={dropout}"]))
        task.prepare(("train", "validation"))
        where = {"rank": 0, "world_size": 1}
        trained = next(iter(task.train_loader(**where, start_step=0)))
        validated = next(iter(task.eval_loader("validation", **where)))
        tokens[dropout] = trained.target, validated.target
        assert task.target_side.artifacts().keys() == {"tokenizer.json"}
    assert tokens[0.0][0].shape != tokens[0.5][0].shape
    assert tokens[0.0][1].tolist() == tokens[0.5][1].tolist()
