"""Batches that batch norm cannot do with are told by the sizes that would do."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from attnbuild.data.batching import TrainBatches
from attnbuild.training.batch_norm import too_few

MODEL = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm2d(2))


@pytest.mark.parametrize("images", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_told_exactly_where_a_batch_is_alone(images: int, rows: int, tokens: int) -> None:
    problems = too_few(MODEL, 1, images, {"rows": rows, "tokens": tokens})
    sampler = TrainBatches(np.ones((images, 2), int), tokens=tokens, rows=rows, seed=0)
    assert bool(problems) == any(len(sampler.batch(number)) == 1 for number in range(images))
    if problems and images > 1:
        _, _, advice = problems[0].message.partition("set ")
        enough = int(advice.split("=")[1][0])
        assert too_few(MODEL, 1, images, {"rows": max(rows, enough), "tokens": max(tokens, enough)}) == []


def test_several_cells_or_no_batch_norm_need_no_company() -> None:
    alone = {"rows": 1, "tokens": 1}
    assert too_few(MODEL, 1, 4, alone)
    assert too_few(MODEL, 4, 4, alone) == []
    assert too_few(nn.LayerNorm(2), 1, 4, alone) == []
    assert too_few(nn.BatchNorm2d(2).eval(), 1, 4, alone) == []
