"""The distribution that sampling draws from, and what its options cut off."""

from __future__ import annotations

import pytest
import torch

from attnbuild.generation.greedy import Greedy
from attnbuild.generation.sample import Sample, draw

PROBABILITIES = torch.tensor([0.4, 0.05, 0.3, 0.15, 0.1])


def shares(*, temperature=1.0, top_k=None, top_p=1.0, draws=20_000):
    """How often each token is drawn with evenly spread noise."""
    noise = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    log_probs = PROBABILITIES.log().expand(draws, -1)
    return torch.bincount(draw(log_probs, noise, temperature, top_k, top_p), minlength=5) / draws


def test_even_noise_gives_the_distribution_back():
    assert torch.allclose(shares(), PROBABILITIES, atol=1e-3)


def test_temperature_is_an_exponent():
    expected = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    assert torch.allclose(shares(temperature=0.5), expected, atol=1e-3)


def test_top_k_keeps_the_likeliest():
    assert torch.allclose(shares(top_k=2), torch.tensor([4 / 7, 0, 3 / 7, 0, 0]), atol=1e-3)


def test_top_k_beyond_the_vocabulary_keeps_all():
    assert torch.allclose(shares(top_k=99), PROBABILITIES, atol=1e-3)


@pytest.mark.parametrize(("top_p", "kept"), [(0.1, [0]), (0.39, [0]), (0.5, [0, 2]), (0.8, [0, 2, 3]), (1.0, range(5))])
def test_top_p_keeps_the_smallest_set_that_reaches_the_share(top_p, kept):
    expected = torch.zeros(5)
    expected[list(kept)] = PROBABILITIES[list(kept)]
    assert torch.allclose(shares(top_p=top_p), expected / expected.sum(), atol=1e-3)


def test_top_p_counts_shares_after_top_k():
    assert shares(top_k=2, top_p=0.5)[0] == 1  # 0.4 of 0.7 is more than half


def test_the_ends_of_the_noise_are_tokens_that_can_be_drawn():
    log_probs = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    noise = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw(log_probs, noise, 1.0, None, 1.0).tolist() == [1, 1]
    assert draw(log_probs, noise, 1e-4, 2, 0.9).tolist() == [1, 1]


def test_samples_follow_the_model(markov):
    table = markov.tables(3, sentences=1)
    search = Sample(markov.place, n_best=4000, max_length_ratio=0, max_length_extra=1)
    outputs = search(markov.decoder(), markov.memory(table)).tokens[0]
    counts = torch.bincount(torch.tensor([one[0] if one else 2 for one in outputs]), minlength=6)
    expected = markov.next_log_probs(table[0], []).softmax(dim=-1) * 4000
    deviation = ((counts - expected)[2:] ** 2 / expected[2:]).sum()
    assert deviation < 16.3  # chi-square with 3 degrees of freedom: above it once in a thousand seeds


def test_a_temperature_near_zero_is_greedy_search(markov):
    memory = markov.memory(markov.tables(5, sentences=8))
    greedy = Greedy(markov.place)(markov.decoder(), memory)
    assert Sample(markov.place, temperature=1e-6)(markov.decoder(), memory) == greedy
    assert Sample(markov.place, top_k=1)(markov.decoder(), memory) == greedy


def test_the_draws_depend_on_seed_and_number_alone(markov):
    memory = markov.memory(markov.tables(9, sentences=1).expand(4, -1, -1))
    index = torch.tensor([4, 7, 4, 2**40])

    def tokens(seed):
        return Sample(markov.place, n_best=8, seed=seed)(markov.decoder(), memory, index).tokens

    first = tokens(1)
    assert first == tokens(1)
    assert first != tokens(2)
    assert first[0] == first[2]
    assert first[0] != first[1]
    assert first[0] != first[3]


def test_outputs_come_best_first(markov):
    memory = markov.memory(markov.tables(9, sentences=3))
    for scores in Sample(markov.place, n_best=6)(markov.decoder(), memory).scores:
        assert scores == sorted(scores, reverse=True)
