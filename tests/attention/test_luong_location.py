"""Luong et al. 2015, equation 8: softmax(W h_t), whatever the keys are."""

from __future__ import annotations

import pytest
import torch

from attnbuild import ConfigError, DataError, build_attention
from tests.attention.steps import assert_beams_equal_their_histories

B, N, S, D = 2, 4, 6, 8
generator = torch.Generator().manual_seed(0)
QUERY = torch.randn(B, N, D, dtype=torch.float64, generator=generator)
MEMORY = torch.randn(B, S, D, dtype=torch.float64, generator=generator)
PADDING = torch.arange(S) >= torch.tensor([[S], [4]])


def test_equals_the_paper() -> None:
    layer = build_attention("luong_location", dim=D, memory_dim=D, max_len=9).double()
    matrix = layer.core.score.weight[0].T  # (max_len, D): the paper's W
    expected = torch.zeros(B, N, D, dtype=torch.float64)
    for row, length in enumerate([S, 4]):
        for t in range(N):
            rated = torch.exp(matrix @ QUERY[row, t])[:length]
            expected[row, t] = (rated / rated.sum()) @ MEMORY[row, :length]
    torch.testing.assert_close(layer(QUERY, MEMORY, key_padding_mask=PADDING), expected)


def test_weights_do_not_depend_on_the_memory_and_no_key_is_projected() -> None:
    layer = build_attention("luong_location", dim=D, memory_dim=D, projections="all", heads=2).double()
    _, weights = layer(QUERY, MEMORY, need_weights=True)
    _, others = layer(QUERY, -3 * MEMORY, need_weights=True)
    torch.testing.assert_close(weights, others)
    assert not list(layer.key_projection.parameters())


def test_beams_equal_their_histories() -> None:
    layer = build_attention("luong_location", dim=D, memory_dim=D).double()
    assert_beams_equal_their_histories(layer, MEMORY, PADDING)


def test_a_longer_memory_is_an_error_that_says_what_to_raise() -> None:
    layer = build_attention("luong_location", dim=D, memory_dim=D, max_len=5).double()
    with pytest.raises(DataError, match=r"6 positions is longer than attention.max_len=5.*set attention.max_len to"):
        layer(QUERY, MEMORY)


def test_self_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match="never looks at a key"):
        build_attention("luong_location", dim=D)
