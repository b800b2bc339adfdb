"""Laws of batches: coverage, budget, order by (seed, k), ranks, resuming."""

from __future__ import annotations

import itertools
import pickle
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbuild.data.batching import EvalBatches, PairBatch, TrainBatches, collate, pair_loader
from attnbuild.data.tokenizers import BOS, EOS, PAD
from attnbuild.errors import DataError

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80).map(np.array)
BUDGET = st.integers(60, 400)
WORLD = st.integers(1, 4)


def stream(lengths, count, **options):
    return list(itertools.islice(TrainBatches(lengths, **options), count))


def padded(lengths, batch):
    return len(batch) * lengths[batch].max()


@given(LENGTHS, BUDGET, st.integers(0, 5))
def test_every_epoch_covers_every_sentence_once_within_budget(lengths, tokens, seed):
    batches = TrainBatches(lengths, tokens=tokens, seed=seed)
    per_epoch = batches.steps_per_epoch
    for epoch in range(3):
        taken = [batches.batch(epoch * per_epoch + place) for place in range(per_epoch)]
        assert sorted(itertools.chain(*taken)) == list(range(len(lengths)))
        assert all(padded(lengths, batch) <= tokens for batch in taken)


@given(LENGTHS, BUDGET, WORLD)
def test_ranks_share_one_stream(lengths, tokens, world_size):
    alone = stream(lengths, 6 * world_size, tokens=tokens, seed=1)
    together = [stream(lengths, 6, tokens=tokens, seed=1, rank=r, world_size=world_size) for r in range(world_size)]
    assert list(itertools.chain(*zip(*together, strict=True))) == alone


@given(LENGTHS, BUDGET, WORLD, st.integers(0, 30))
def test_resuming_continues_the_stream(lengths, tokens, world_size, start):
    options = {"tokens": tokens, "seed": 3, "rank": world_size - 1, "world_size": world_size}
    whole = stream(lengths, start + 4, **options)
    assert stream(lengths, 4, start_step=start, **options) == whole[start:]
    moved = TrainBatches(lengths, **options)
    moved.load_position(start)
    assert list(itertools.islice(moved, 4)) == whole[start:]


@given(LENGTHS.map(lambda lengths: (lengths + 1) // 2), BUDGET)
def test_the_first_batch_is_the_costliest_of_all(lengths, tokens):
    batches = TrainBatches(lengths, tokens=tokens, seed=1)

    def cost(batch):
        return len(batch) * lengths[batch].max() ** 2

    costs = [cost(batches.batch(number)) for number in range(2 * batches.steps_per_epoch)]
    assert costs[0] == max(costs)


def test_epochs_and_seeds_differ_but_repeat():
    lengths = np.random.default_rng(0).integers(1, 30, (500, 2))
    first, again = (stream(lengths, 40, tokens=300, seed=1) for _ in range(2))
    assert first == again
    assert stream(lengths, 40, tokens=300, seed=2) != first
    batches = TrainBatches(lengths, tokens=300, seed=1)
    per_epoch = batches.steps_per_epoch
    compositions = [{frozenset(batches.batch(e * per_epoch + n)) for n in range(per_epoch)} for e in range(2)]
    assert len(compositions[0] & compositions[1]) < per_epoch / 4


def test_padding_is_small_when_lengths_agree():
    draw = np.random.default_rng(0)
    source = draw.integers(4, 40, 20000)
    lengths = np.stack([source, np.maximum(source + draw.integers(-3, 4, 20000), 1)], axis=1)
    batches = TrainBatches(lengths, tokens=4096, seed=1)
    filled = lengths.sum() / 2 / (batches.steps_per_epoch * 4096)
    assert filled > 0.85


def test_counting_epochs():
    batches = TrainBatches(np.full((100, 2), 10), tokens=100, seed=1, world_size=4)
    assert batches.steps_per_epoch == 3
    assert batches.epoch_of(5) == 2.0


@pytest.mark.parametrize("lengths", [[(5, 5), (9, 120), (101, 2)], [(300, 1)]])
def test_a_row_beyond_the_budget_is_refused(lengths):
    with pytest.raises(DataError, match=r"batch\.tokens=100; the longest, number \d, .*batch\.max_length"):
        TrainBatches(np.array(lengths), tokens=100, seed=1)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no sentence pair"):
        TrainBatches(np.empty((0, 2), np.int32), tokens=100, seed=1)


@given(LENGTHS, st.integers(10, 200), WORLD)
def test_evaluation_scores_every_sentence_once_longest_first(lengths, tokens, world_size):
    ranks = [list(EvalBatches(lengths, tokens=tokens, rank=rank, world_size=world_size)) for rank in range(world_size)]
    batches = list(itertools.chain(*ranks))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    assert all(len(batch) == 1 or padded(lengths, batch) <= tokens for batch in batches)
    for mine in ranks:
        longest = [lengths[batch].max() for batch in mine]
        assert longest == sorted(longest, reverse=True)


def test_evaluation_of_fewer_sentences_than_ranks():
    sizes = [len(EvalBatches(np.array([[3, 3]]), tokens=10, rank=rank, world_size=2)) for rank in range(2)]
    assert sizes == [1, 0]


def test_a_million_sentences_are_planned_quickly():
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 250, (1_000_000, 2)).astype(np.int32)
    started = time.process_time()
    batches = TrainBatches(lengths, tokens=4096, seed=1)
    next(iter(batches))
    assert time.process_time() - started < 5


class FewPairs:
    """A corpus of three pairs."""

    lengths = np.array([[3, 2], [1, 4], [2, 1]], np.int32)

    def __len__(self):
        return 3

    def rows(self, indices):
        source = [np.array(row, np.int32) for row in ([11, 12], [], [13])]
        target = [np.array(row, np.int32) for row in ([21], [22, 23, 24], [])]
        return [source[index] for index in indices], [target[index] for index in indices]


def test_collation_pads_on_the_right():
    batch = collate(FewPairs(), [1, 0])
    assert batch.source.tolist() == [[EOS, PAD, PAD], [11, 12, EOS]]
    assert batch.target.tolist() == [[BOS, 22, 23, 24, EOS], [BOS, 21, EOS, PAD, PAD]]
    assert batch.index.tolist() == [1, 0]
    assert {batch.source.dtype, batch.target.dtype, batch.index.dtype} == {torch.int64}
    assert len(batch) == 2
    assert batch.to("meta").source.is_meta


def test_the_loader_follows_the_sampler():
    corpus = FewPairs()
    loader = pair_loader(corpus, EvalBatches(corpus.lengths, tokens=8))
    batches = list(loader)
    assert all(isinstance(batch, PairBatch) for batch in batches)
    assert [batch.index.tolist() for batch in batches] == [[1, 0], [2]]
    assert len(loader) == 2
    endless = pair_loader(corpus, TrainBatches(corpus.lengths, tokens=8, seed=1))
    assert len(list(itertools.islice(endless, 7))) == 7
    with pytest.raises(TypeError):
        len(endless)


@settings(max_examples=20)
@given(LENGTHS)
def test_a_sampler_can_be_pickled_midway(lengths):
    batches = TrainBatches(lengths, tokens=100, seed=1)
    batches.batch(7)
    assert pickle.loads(pickle.dumps(batches)).batch(9) == batches.batch(9)
