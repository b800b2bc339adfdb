"""Beam search against enumeration, against a plain loop over lists, and against greedy search."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.errors import ConfigError
from attnbuild.generation.beam import Beam, length_penalty
from attnbuild.generation.greedy import Greedy

EOS, WORDS = 2, (3, 4, 5)
alphas = st.sampled_from([0.0, 0.6, 1.0, 2.0])
seeds = st.integers(0, 10_000)


def score_of(markov, table, tokens, ended, alpha):
    """Eq. 14 of Wu et al. 2016 over the model's log-probability, written out."""
    path = [*tokens, EOS] if ended else list(tokens)
    log_prob = sum(float(markov.next_log_probs(table, path[:i])[token]) for i, token in enumerate(path))
    return log_prob / ((5 + len(path)) ** alpha / (5 + 1) ** alpha)


def enumerate_all(markov, table, limit, alpha):
    """Every output of at most ``limit`` steps, best first."""
    found = []
    for length in range(limit + 1):
        for tokens in itertools.product(WORDS, repeat=length):
            found.append((score_of(markov, table, tokens, length < limit, alpha), list(tokens)))
    return sorted(found, reverse=True)


def plain_beam(markov, table, limit, beam, alpha):
    """Beam search of one sentence over lists, without early stopping by the bound."""
    live, ended = [(0.0, [])], []
    for step in range(1, limit + 1):
        candidates = []
        for log_prob, tokens in live:
            for token, gain in enumerate(markov.next_log_probs(table, tokens).tolist()):
                candidates.append((log_prob + gain, [*tokens, token]))
        candidates = sorted((c for c in candidates if c[0] > -math.inf), reverse=True)[: 2 * beam]
        penalty = ((5 + step) / 6) ** alpha
        ended += [(score / penalty, tokens[:-1]) for score, tokens in candidates[:beam] if tokens[-1] == EOS]
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beam]
        if len(ended) >= beam:
            return sorted(ended, reverse=True)[:beam]
    return sorted(ended + [(score / penalty, tokens) for score, tokens in live], reverse=True)[:beam]


@pytest.mark.parametrize(("length", "alpha", "expected"), [(1, 0.7, 1.0), (7, 1.0, 2.0), (19, 0.5, 2.0), (9, 0, 1)])
def test_length_penalty_has_the_values_of_the_formula(length, alpha, expected):
    assert float(length_penalty(length, alpha)) == pytest.approx(expected)
    assert float(length_penalty(torch.tensor(length), alpha)) == pytest.approx(expected)


@settings(max_examples=25)
@given(seed=seeds, alpha=alphas)
def test_a_wide_beam_finds_what_enumeration_finds(markov, seed, alpha):
    tables = markov.tables(seed, sentences=2)
    search = Beam(markov.place, beam=125, n_best=6, length_penalty=alpha, max_length_ratio=0, max_length_extra=4)
    generated = search(markov.decoder(), markov.memory(tables))
    for table, tokens, scores in zip(tables, generated.tokens, generated.scores, strict=True):
        expected = enumerate_all(markov, table, limit=4, alpha=alpha)[:6]
        assert tokens == [one for _, one in expected]
        assert scores == pytest.approx([score for score, _ in expected], abs=1e-5)


@settings(max_examples=60)
@given(seed=seeds, alpha=alphas, beam=st.integers(1, 6), eos=st.sampled_from([-3.0, 0.0, 2.0]), data=st.data())
def test_batched_search_equals_a_plain_loop_that_never_stops_early(markov, seed, alpha, beam, eos, data):
    n_best = data.draw(st.integers(1, beam))
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    tables = markov.tables(seed, sentences=len(lengths), eos=eos)
    search = Beam(
        markov.place, beam=beam, n_best=n_best, length_penalty=alpha, max_length_ratio=1.0, max_length_extra=2
    )
    generated = search(markov.decoder(), markov.memory(tables, lengths))
    for sentence, length in enumerate(lengths):
        expected = plain_beam(markov, tables[sentence], length + 2, beam, alpha)[:n_best]
        assert generated.tokens[sentence] == [tokens for _, tokens in expected]
        assert generated.scores[sentence] == pytest.approx([score for score, _ in expected], abs=1e-5)


@settings(max_examples=40)
@given(seed=seeds, alpha=alphas, eos=st.sampled_from([-2.0, 0.0, 2.0]))
def test_a_beam_of_one_is_greedy_search(markov, seed, alpha, eos):
    memory = markov.memory(markov.tables(seed, sentences=3, eos=eos), [1, 4, 2])
    greedy = Greedy(markov.place)(markov.decoder(), memory)
    assert Beam(markov.place, beam=1, length_penalty=alpha)(markov.decoder(), memory).tokens == greedy.tokens
    unpenalised = Beam(markov.place, beam=1, length_penalty=0.0)(markov.decoder(), memory)
    assert torch.allclose(torch.tensor(unpenalised.scores), torch.tensor(greedy.scores), atol=1e-5)


@settings(max_examples=30)
@given(seed=seeds, alpha=alphas)
def test_the_best_are_sorted_and_distinct(markov, seed, alpha):
    search = Beam(markov.place, beam=5, n_best=5, length_penalty=alpha)
    generated = search(markov.decoder(), markov.memory(markov.tables(seed, sentences=3)))
    for tokens, scores in zip(generated.tokens, generated.scores, strict=True):
        assert len(tokens) == len({tuple(one) for one in tokens}) == 5
        assert scores == sorted(scores, reverse=True)


def test_the_bound_ends_a_sentence_before_the_limit(markov):
    tables = markov.tables(1, sentences=1)
    tables[:, :, EOS] = 8.0  # the empty output has nearly all probability, and no other can catch up
    decoder = markov.decoder()
    Beam(markov.place, beam=4, n_best=1, length_penalty=1.0)(decoder, markov.memory(tables))
    assert len(decoder.rows_seen) == 1


def test_fewer_outputs_than_asked_for_where_there_are_no_more(markov):
    search = Beam(markov.place, beam=9, n_best=9, max_length_ratio=0, max_length_extra=1)
    generated = search(markov.decoder(), markov.memory(markov.tables(3, sentences=2)))
    assert [len(tokens) for tokens in generated.tokens] == [4, 4]  # the empty one and three words


def test_more_outputs_than_beams_are_refused(markov):
    with pytest.raises(ConfigError, match="6 outputs need a beam at least as wide, not 5"):
        Beam(markov.place, beam=5, n_best=6)


def test_description_names_the_width(markov):
    assert Beam(markov.place, beam=7).description == "beam7"
