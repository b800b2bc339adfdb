"""The alignment of given outputs, without their padding."""

from __future__ import annotations

import torch

from attnbuild.decoders.base import Decoded
from attnbuild.generation.align import align


def test_each_sentence_gets_its_own_heads_targets_and_sources(markov):
    seen = []

    def decoder(target_in, memory, need_weights):
        seen.append(target_in.tolist())
        return Decoded(torch.empty(0), torch.rand(2, 3, target_in.shape[1], memory.states.shape[1]))

    memory = markov.memory(markov.tables(1, sentences=2), [4, 2])
    weights = align(decoder, memory, [[5], [3, 4, 5]], markov.place)
    assert seen == [[[1, 5, 0, 0], [1, 3, 4, 5]]]
    assert [tuple(one.shape) for one in weights] == [(3, 2, 4), (3, 4, 2)]


def test_a_decoder_without_weights_has_no_alignment(markov):
    memory = markov.memory(markov.tables(1, sentences=1))
    assert align(lambda *_, **__: Decoded(torch.empty(0)), memory, [[3]], markov.place) is None


def test_an_empty_output_still_has_its_end_token(markov):
    memory = markov.memory(markov.tables(1, sentences=1), [2])
    memory.key_padding_mask = None
    weights = align(
        lambda target, *_, **__: Decoded(torch.empty(0), torch.rand(1, 1, 1, 2)), memory, [[]], markov.place
    )
    assert weights[0].shape == (1, 1, 2)
