"""Luong et al. 2015, 3.2, local-m: p = t, counted from 0; the softmax is over the window alone."""

from __future__ import annotations

import math

import pytest
import torch

from attnbuild import ConfigError, build_attention
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D = 2, 9, 6, 8
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
LENGTHS = [S, 3]
PADDING = torch.arange(S) >= torch.tensor(LENGTHS).unsqueeze(1)


@pytest.mark.parametrize("window", [0, 1, 2, 20])
def test_equals_the_paper_and_an_empty_window_gives_0(window: int) -> None:
    layer = build_attention("local_m", dim=D, memory_dim=D, window=window).double()
    matrix = layer.core.score.weight[0]
    output, weights = layer(QUERY, MEMORY, key_padding_mask=PADDING, need_weights=True)
    empty = 0
    for row, length in enumerate(LENGTHS):
        for t in range(N):
            seen = range(max(0, t - window), min(length - 1, t + window) + 1)
            expected = torch.zeros(S, dtype=torch.float64)
            total = sum(math.exp((QUERY[row, t] @ matrix @ MEMORY[row, j]).item()) for j in seen)
            for j in seen:
                expected[j] = math.exp((QUERY[row, t] @ matrix @ MEMORY[row, j]).item()) / total
            torch.testing.assert_close(weights[row, 0, t], expected)
            torch.testing.assert_close(output[row, t], expected @ MEMORY[row])
            empty += len(seen) == 0
    assert (empty > 0) == (window < 7)


def test_scores_and_weightings_compose_in_heads() -> None:
    """Additive score and sparsemax in two heads: dense weights of the same parts under the window."""
    options = {"score": "additive", "weighting": "sparsemax", "heads": 2, "kv_heads": 1, "projections": "all"}
    layer = build_attention("local_m", dim=D, memory_dim=D, window=2, **options).double()
    _, weights = layer(QUERY, MEMORY, need_weights=True)
    query, key, _ = layer._queries(QUERY), *layer._project(MEMORY)
    score = layer.core.score
    rated = score.rate(score.query(query), score.key(key).repeat_interleave(2, dim=1))
    near = (torch.arange(N).unsqueeze(1) - torch.arange(S)).abs() <= 2
    torch.testing.assert_close(weights, layer.core.weighting(rated, near))


def test_steps_are_counted() -> None:
    layer = build_attention("local_m", dim=D, memory_dim=D, window=1).double()
    assert_beams_equal_their_histories(layer, MEMORY, PADDING, steps=N)


def test_self_attention_is_refused_for_the_window_pattern() -> None:
    with pytest.raises(ConfigError, match="pattern=window"):
        build_attention("local_m", dim=D)


def test_it_takes_no_pattern() -> None:
    with pytest.raises(ConfigError, match="takes no pattern"):
        build_attention("local_m", dim=D, memory_dim=D, pattern="full")
