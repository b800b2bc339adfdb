"""The bigbird pattern against a plain loop, its promises about lengths, and transformers' BigBird."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnbuild import build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.patterns.bigbird import BigBird
from tests.attention.seen import seen_by

HEADS = 2


def hashed(bits: int) -> int:
    """The hash of the pattern, in Python's own unbounded integers."""
    bits %= 2**32
    for multiplier in (0x45D9F3B, 0x2C1B3C6D):
        bits = ((bits ^ (bits >> 16)) * multiplier + 0x9E3779B) % 2**32
    return bits ^ (bits >> 16)


def drawn(head: int, block: int, *, causal: bool, window: int, shared: int, draws: int, seed: int) -> list[int]:
    """The random blocks of a block of queries, from lists of the blocks that can be drawn."""
    behind = list(range(shared, block - window))
    ahead = [] if causal else list(range(block + window + 1, block + window + 1 + len(behind)))
    pool = behind + ahead
    chosen = []
    for index in range(draws):
        part = pool[len(pool) * index // draws : len(pool) * (index + 1) // draws]
        if part:
            chosen.append(part[hashed(hashed(hashed(hashed(seed) ^ head) ^ block) ^ index) % len(part)])
    assert len(set(chosen)) == len(chosen)
    return chosen


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("size", "window", "shared", "draws"), [(1, 1, 1, 2), (2, 1, 1, 3), (3, 0, 2, 1), (2, 1, 0, 2), (2, 1, 1, 0)]
)
def test_bigbird_sees_its_blocks(size: int, window: int, shared: int, draws: int, causal: bool) -> None:
    length = 31
    options = {"block_size": size, "window_blocks": window, "global_blocks": shared, "random_blocks": draws}
    seen = seen_by("bigbird", length, **options, pattern_seed=5, heads=HEADS, causal=causal)
    for head in range(HEADS):
        for i in range(length):
            block = i // size
            chosen = drawn(head, block, causal=causal, window=window, shared=shared, draws=draws, seed=5)
            for j in range(length):
                other = j // size
                near, common = abs(block - other) <= window, min(block, other) < shared
                expected = (near or common or other in chosen) and (j <= i or not causal)
                assert seen[head, i, j] == expected, (head, i, j)


def test_draws_differ_by_head_seed_and_block_and_are_spread_evenly() -> None:
    pattern = build_attention("bigbird", dim=8, heads=2, causal=True, random_blocks=1).core.pattern
    head, block = torch.arange(2).view(2, 1), torch.arange(3, 4003).view(1, -1)
    first = pattern.draw(head, block, 0)
    assert (first[0] != first[1]).float().mean() > 0.9
    pattern.pattern_seed = 1
    assert (first != pattern.draw(head, block, 0)).float().mean() > 0.9
    share = (first - 2).double() / (block - 3).clamp(min=1)
    assert share.mean().item() == pytest.approx(0.5, abs=0.02)
    assert share.std().item() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("causal", [True, False])
def test_more_positions_change_no_earlier_draw(causal: bool) -> None:
    options = {"block_size": 1, "window_blocks": 0, "global_blocks": 1, "random_blocks": 2, "causal": causal}
    short, long = (seen_by("bigbird", length, **options, heads=HEADS) for length in (20, 33))
    # The first block, global, sees all there is.
    assert (short[:, 1:] == long[:, 1:20, :20]).all()


def transformers_bigbird(layer: AttentionBlock, blocks: int) -> Any:
    """transformers' block-sparse self-attention with the layer's weights."""
    big_bird = pytest.importorskip("transformers.models.big_bird.modeling_big_bird", reason="no transformers")
    pattern = layer.core.pattern
    config = big_bird.BigBirdConfig(
        hidden_size=layer.place.dim,
        num_attention_heads=layer.heads,
        block_size=pattern.block_size,
        num_random_blocks=pattern.random_blocks,
        max_position_embeddings=blocks * pattern.block_size,
        use_bias=True,
    )
    twin = big_bird.BigBirdBlockSparseAttention(config, seed=3).double()
    twin.query.load_state_dict(layer.query_projection.state_dict())
    twin.key.load_state_dict(layer.key_projection.state_dict())
    twin.value.load_state_dict(layer.value_projection.state_dict())
    return twin.train()  # only then it draws random blocks


class DrawnByTransformers(BigBird):
    """The pattern with random blocks from a table: (H, query blocks, random blocks)."""

    table: Tensor

    def random(self, head: Tensor, query_block: Tensor, key_block: Tensor) -> Tensor:
        seen = torch.zeros((), dtype=torch.bool)
        for index in range(self.random_blocks):
            seen = seen | (self.table[head, query_block, index] == key_block)
        return seen


@pytest.mark.parametrize("random_blocks", [1, 3])
def test_bigbird_equals_transformers(random_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same blocks, the same weights; its last block, always global there, is padding here."""
    size, blocks, dim = 4, 12, 16
    options = {"block_size": size, "window_blocks": 1, "global_blocks": 1, "random_blocks": random_blocks}
    layer = build_attention("bigbird", dim=dim, heads=HEADS, **options).double()
    twin = transformers_bigbird(layer, blocks)
    tables = []
    draw = twin._bigbird_block_rand_mask_with_head

    def remember(*args: Any, **kwargs: Any) -> Any:
        tables.append(draw(*args, **kwargs))
        return tables[-1]

    monkeypatch.setattr(twin, "_bigbird_block_rand_mask_with_head", remember)
    states = torch.randn(2, size * blocks, dim, dtype=torch.float64)
    real = torch.ones(2, size * blocks, dtype=torch.float64)
    real[:, -size:] = 0
    real[1, -size - 3 :] = 0
    blocked = real.view(2, blocks, size)
    neighbours = torch.cat([blocked[:, 1:-3], blocked[:, 2:-2], blocked[:, 3:-1]], dim=2)
    band = torch.einsum("blq,blk->blqk", blocked[:, 2:-2], neighbours).unsqueeze(1)
    masks = {"from_mask": real.view(2, 1, -1, 1), "to_mask": real.view(2, 1, 1, -1), "band_mask": band}
    expected, _ = twin(states, **masks, from_blocked_mask=blocked, to_blocked_mask=blocked)

    (table,) = tables  # its first and last rows are global and draw nothing
    layer.core.pattern.__class__ = DrawnByTransformers
    layer.core.pattern.table = torch.from_numpy(np.pad(np.stack(table), ((0, 0), (1, 1), (0, 0))))
    output = layer(states, key_padding_mask=real == 0)
    kept = real.bool()
    torch.testing.assert_close(output[kept], layer.out_projection(expected)[kept])
