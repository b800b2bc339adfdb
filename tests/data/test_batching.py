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

from attnbuild.data.batching import Batch, EvalBatches, Examples, TrainBatches, example_loader
from attnbuild.data.sides.base import Side
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers import BOS, EOS, PAD
from attnbuild.errors import DataError

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80).map(np.array)
BUDGET = st.integers(60, 400)
WORLD = st.integers(1, 4)


#: More rows than any of these tests has.
ROWS = 10**9


def stream(lengths, count, **options):
    return [rows for _, rows in itertools.islice(TrainBatches(lengths, rows=ROWS, **options), count)]


def padded(lengths, batch):
    return len(batch) * lengths[batch].max()


@given(LENGTHS, BUDGET, st.integers(0, 5))
def test_every_epoch_covers_every_sentence_once_within_budget(lengths, tokens, seed):
    batches = TrainBatches(lengths, rows=ROWS, tokens=tokens, seed=seed)
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
    moved = TrainBatches(lengths, rows=ROWS, **options)
    moved.load_position(start)
    assert [rows for _, rows in itertools.islice(moved, 4)] == whole[start:]


@given(LENGTHS.map(lambda lengths: (lengths + 1) // 2), BUDGET)
def test_the_first_batch_is_the_costliest_of_all(lengths, tokens):
    batches = TrainBatches(lengths, rows=ROWS, tokens=tokens, seed=1)

    def cost(batch):
        return len(batch) * lengths[batch].max() ** 2

    costs = [cost(batches.batch(number)) for number in range(2 * batches.steps_per_epoch)]
    assert costs[0] == max(costs)


def test_epochs_and_seeds_differ_but_repeat():
    lengths = np.random.default_rng(0).integers(1, 30, (500, 2))
    first, again = (stream(lengths, 40, tokens=300, seed=1) for _ in range(2))
    assert first == again
    assert stream(lengths, 40, tokens=300, seed=2) != first
    batches = TrainBatches(lengths, rows=ROWS, tokens=300, seed=1)
    per_epoch = batches.steps_per_epoch
    compositions = [{frozenset(batches.batch(e * per_epoch + n)) for n in range(per_epoch)} for e in range(2)]
    assert len(compositions[0] & compositions[1]) < per_epoch / 4


def test_padding_is_small_when_lengths_agree():
    draw = np.random.default_rng(0)
    source = draw.integers(4, 40, 20000)
    lengths = np.stack([source, np.maximum(source + draw.integers(-3, 4, 20000), 1)], axis=1)
    batches = TrainBatches(lengths, rows=ROWS, tokens=4096, seed=1)
    filled = lengths.sum() / 2 / (batches.steps_per_epoch * 4096)
    assert filled > 0.85


def test_counting_epochs():
    batches = TrainBatches(np.full((100, 2), 10), rows=ROWS, tokens=100, seed=1, world_size=4)
    assert batches.steps_per_epoch == 3
    assert batches.epoch_of(5) == 2.0


@pytest.mark.parametrize("lengths", [[(5, 5), (9, 120), (101, 2)], [(300, 1)]])
def test_a_row_beyond_the_budget_is_refused(lengths):
    with pytest.raises(
        DataError, match=r"batch\.tokens=100; the longest, number \d, .*set batch\.tokens=(120|300) or more"
    ):
        TrainBatches(np.array(lengths), rows=ROWS, tokens=100, seed=1)


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no example"):
        TrainBatches(np.empty((0, 2), np.int32), rows=ROWS, tokens=100, seed=1)


@given(LENGTHS, st.integers(10, 200), WORLD)
def test_evaluation_scores_every_sentence_once_longest_first(lengths, tokens, world_size):
    ranks = [
        [rows for _, rows in EvalBatches(lengths, rows=ROWS, tokens=tokens, rank=rank, world_size=world_size)]
        for rank in range(world_size)
    ]
    batches = list(itertools.chain(*ranks))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    assert all(len(batch) == 1 or padded(lengths, batch) <= tokens for batch in batches)
    for mine in ranks:
        longest = [lengths[batch].max() for batch in mine]
        assert longest == sorted(longest, reverse=True)


def test_evaluation_of_fewer_sentences_than_ranks():
    sizes = [len(EvalBatches(np.array([[3, 3]]), rows=ROWS, tokens=10, rank=rank, world_size=2)) for rank in range(2)]
    assert sizes == [1, 0]


def test_a_million_sentences_are_planned_quickly():
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 250, (1_000_000, 2)).astype(np.int32)
    started = time.process_time()
    batches = TrainBatches(lengths, rows=ROWS, tokens=4096, seed=1)
    next(iter(batches))
    assert time.process_time() - started < 5


@given(LENGTHS, BUDGET, st.integers(1, 7), WORLD)
def test_no_batch_has_more_rows_than_it_may(lengths, tokens, rows, world_size):
    batches = TrainBatches(lengths, tokens=tokens, rows=rows, seed=1)
    assert all(len(batches.batch(number)) <= rows for number in range(2 * batches.steps_per_epoch))
    evaluated = [chosen for _, chosen in EvalBatches(lengths, tokens=tokens, rows=rows)]
    assert sorted(itertools.chain(*evaluated)) == list(range(len(lengths)))
    assert max(map(len, evaluated)) <= rows


def test_training_batches_have_their_number_in_the_stream():
    options = {"tokens": 100, "rows": 3, "seed": 1, "rank": 1, "world_size": 2, "start_step": 5}
    numbers = [number for number, _ in itertools.islice(TrainBatches(np.full((9, 2), 4), **options), 4)]
    assert numbers == [11, 13, 15, 17]


class FewPairs:
    """A corpus of three pairs."""

    widths = np.array([[3, 2], [1, 4], [2, 1]], np.int32)

    def __len__(self):
        return 3

    def rows(self, indices):
        source = [np.array(row, np.int32) for row in ([11, 12], [], [13])]
        target = [np.array(row, np.int32) for row in ([21], [22, 23, 24], [])]
        return [source[index] for index in indices], [target[index] for index in indices]


SIDES = (TextSide(None), TextSide(None, begin=True))


def test_collation_pads_on_the_right():
    batch = Examples(FewPairs(), SIDES)[None, [1, 0]]
    assert batch.source.tolist() == [[EOS, PAD, PAD], [11, 12, EOS]]
    assert batch.target.tolist() == [[BOS, 22, 23, 24, EOS], [BOS, 21, EOS, PAD, PAD]]
    assert batch.index.tolist() == [1, 0]
    assert {batch.source.dtype, batch.target.dtype, batch.index.dtype} == {torch.int64}
    assert len(batch) == 2
    assert batch.to("meta").source.is_meta


class Drawn(Side):
    """A side whose batches are what was drawn for them."""

    fingerprint = artifacts = encode = text = width = None

    def collate(self, rows, draw):
        return torch.tensor([0 if draw is None else int(draw.integers(10**9)) for _ in rows])


def test_what_is_drawn_follows_from_seed_and_number():
    drawn = [Examples(FewPairs(), (Drawn(), Drawn()), seed)[number, [0, 1]] for seed in (1, 2) for number in (0, 1, 0)]
    values = [(batch.source.tolist(), batch.target.tolist()) for batch in drawn]
    assert values[0] == values[2]
    assert values[3] == values[5]
    assert len({str(value) for value in values}) == 4
    assert Examples(FewPairs(), (Drawn(), Drawn()), 1)[None, [0, 1]].source.tolist() == [0, 0]


def test_the_loader_follows_the_sampler():
    examples = Examples(FewPairs(), SIDES)
    loader = example_loader(examples, EvalBatches(FewPairs.widths, tokens=8, rows=9))
    batches = list(loader)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [batch.index.tolist() for batch in batches] == [[1, 0], [2]]
    assert len(loader) == 2
    endless = example_loader(examples, TrainBatches(FewPairs.widths, tokens=8, rows=9, seed=1))
    assert len(list(itertools.islice(endless, 7))) == 7
    with pytest.raises(TypeError):
        len(endless)


@settings(max_examples=20)
@given(LENGTHS)
def test_a_sampler_can_be_pickled_midway(lengths):
    batches = TrainBatches(lengths, rows=ROWS, tokens=100, seed=1)
    batches.batch(7)
    assert pickle.loads(pickle.dumps(batches)).batch(9) == batches.batch(9)


@given(st.integers(1, 300), st.integers(1, 40))
def test_rows_of_one_width_make_batches_of_one_size(count, rows):
    batches = TrainBatches(np.ones((count, 2), int), tokens=10**6, rows=rows, seed=1)
    sizes = [len(batches.batch(number)) for number in range(batches.steps_per_epoch)]
    assert len(sizes) == -(-count // rows)
    assert max(sizes) <= rows
    assert max(sizes) - min(sizes) <= 1
