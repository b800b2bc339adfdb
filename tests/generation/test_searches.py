"""Laws of every registered search: independence of the batch, limits, leaving the batch, odd models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.registry import build, names

EOS = 2
configs = [
    {"type": "greedy"},
    {"type": "beam", "beam": 1},
    {"type": "beam", "beam": 4, "n_best": 3},
    {"type": "sample", "n_best": 1},
    {"type": "sample", "n_best": 3, "top_k": 3, "top_p": 0.9, "temperature": 1.5},
]
searches = pytest.mark.parametrize("config", configs, ids=lambda config: "-".join(map(str, config.values())))


def make(markov, config, ratio=1.0, extra=2):
    return build("search", markov.place, {**config, "max_length_ratio": ratio, "max_length_extra": extra})


def test_every_registered_search_is_tested_here():
    assert {config["type"] for config in configs} == set(names("search")) - {"none"}


@searches
@settings(max_examples=25)
@given(seed=st.integers(0, 9999), lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_a_batch_equals_its_sentences_one_by_one(markov, config, seed, lengths):
    search = make(markov, config)
    tables, index = markov.tables(seed, sentences=len(lengths)), torch.arange(len(lengths)) + 40
    together = search(markov.decoder(), markov.memory(tables, lengths), index)
    for i, length in enumerate(lengths):
        alone = search(markov.decoder(), markov.memory(tables[i : i + 1], [length]), index[i : i + 1])
        assert together.tokens[i] == alone.tokens[0]
        assert together.scores[i] == pytest.approx(alone.scores[0], abs=1e-6)


@searches
def test_the_token_for_what_the_vocabulary_lacks_is_never_written(markov, config):
    """Here it is the likeliest of all, at every step."""
    unknown = 3
    tables = markov.tables(11, sentences=4)
    tables[..., unknown] = 50.0
    memory = markov.memory(tables, [3, 4, 5, 6])
    place = replace(markov.place, unk_id=unknown)
    options = {**config, "max_length_ratio": 1.0, "max_length_extra": 2}
    written = build("search", place, options)(markov.decoder(), memory, torch.arange(4))
    assert not any(unknown in one for tokens in written.tokens for one in tokens)
    assert any(unknown in one for tokens in make(markov, config)(markov.decoder(), memory).tokens for one in tokens)


@searches
def test_without_padding_the_mask_may_be_left_out(markov, config):
    memory = markov.memory(markov.tables(5, sentences=3), [4, 4, 4])
    masked = make(markov, config)(markov.decoder(), memory)
    memory.key_padding_mask = None
    assert make(markov, config)(markov.decoder(), memory) == masked


@searches
def test_a_model_that_never_ends_is_cut_off_at_each_sentences_own_limit(markov, config):
    tables = markov.tables(7, sentences=3, eos=-math.inf)
    decoder = markov.decoder()
    generated = make(markov, config, ratio=1.5, extra=1)(decoder, markov.memory(tables, [1, 2, 5]))
    assert [{len(one) for one in tokens} for tokens in generated.tokens] == [{2}, {4}, {8}]
    assert all(math.isfinite(score) for scores in generated.scores for score in scores)


@searches
def test_finished_sentences_leave_the_batch(markov, config):
    decoder = markov.decoder()
    tables = markov.tables(7, sentences=3, eos=-math.inf)
    make(markov, config)(decoder, markov.memory(tables, [1, 2, 5]))  # limits 3, 4, 7
    first, *others = decoder.rows_seen
    width = others[0] // 3
    assert first == 3 or first == 3 * width, "a beam begins with one hypothesis a sentence"
    assert [rows // width for rows in others] == [3, 3, 2, 1, 1, 1]


@searches
def test_a_model_that_ends_at_once_gives_the_empty_output(markov, config):
    tables = torch.full((2, 11, 6), -math.inf)
    tables[:, :, EOS] = 0
    decoder = markov.decoder()
    generated = make(markov, config)(decoder, markov.memory(tables))
    assert all(one == [] for tokens in generated.tokens for one in tokens)
    assert all(score == 0 for scores in generated.scores for score in scores)
    assert len(decoder.rows_seen) == 1


@searches
def test_a_model_gone_to_nan_gives_something_and_ends(markov, config):
    generated = make(markov, config)(markov.decoder(), markov.memory(torch.full((2, 11, 6), math.nan)))
    assert all(len(tokens) >= 1 for tokens in generated.tokens)


@searches
def test_begin_and_padding_tokens_are_never_produced(markov, config):
    tables = markov.tables(11, sentences=4)
    tables[:, :, :2] = 9.0
    generated = make(markov, config)(markov.decoder(), markov.memory(tables))
    assert {token for tokens in generated.tokens for one in tokens for token in one} <= {3, 4, 5}


@searches
def test_greedy_beam_and_sample_score_what_they_return(markov, config):
    tables = markov.tables(13, sentences=3)
    search = make(markov, {**config, **({"length_penalty": 0.0} if config["type"] == "beam" else {})}, extra=20)
    generated = search(markov.decoder(), markov.memory(tables))
    for table, tokens, scores in zip(tables, generated.tokens, generated.scores, strict=True):
        for one, score in zip(tokens, scores, strict=True):
            path = [*one, EOS] if len(one) < 23 else one
            steps = [markov.next_log_probs(table, path[:i])[token] for i, token in enumerate(path)]
            assert score == pytest.approx(float(sum(steps)), abs=1e-4)


@searches
def test_no_graph_is_recorded(markov, config):
    memory = markov.memory(markov.tables(17, sentences=1).requires_grad_())
    assert make(markov, config)(markov.decoder(), memory).tokens
