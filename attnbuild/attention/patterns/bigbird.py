"""Near blocks, global blocks and random blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Blocks, Columns, Piece, Rows, Table
from attnbuild.attention.place import HeadPlace
from attnbuild.registry import register

__all__ = ["BigBird"]


@register("pattern", "bigbird")
class BigBird(Pattern):
    """By blocks: a query sees the near ones, the global ones and a few random ones (Zaheer et al. 2020, 2 and D).

    Global is the paper's internal form (ITC): the first blocks are seen by all and see all; causal, they see their
    past alone. transformers' BigBird also makes the last block global, which would depend on the padding.

    Random blocks are drawn by a hash of seed, head and block, so that neither more padding nor one more token
    changes what an earlier query sees. The paper draws uniformly from all blocks of the sequence, which needs its
    length. Here the blocks drawn from are, causal, all those before the window; not causal, those and as many
    behind the window, of which the ones past the end count for nothing. They are cut into as many
    equal ranges as there are draws and one is drawn from each, so no block is drawn twice.

    Args:
        block_size: positions in a block.
        window_blocks: how many blocks to each side are seen (1: the paper's window of 3).
        global_blocks: how many blocks at the start are global.
        random_blocks: how many more blocks each block of queries draws, in each head.
        pattern_seed: what the random blocks are drawn from.
    """

    capabilities = Capabilities(
        cross_attention=False,
        reasons={"cross_attention": "its blocks are shared by query and key, which stand in different sequences there"},
    )

    sparse = True

    def __init__(
        self,
        place: HeadPlace,
        *,
        block_size: Annotated[int, Ge(1)] = 16,
        window_blocks: Annotated[int, Ge(0)] = 1,
        global_blocks: Annotated[int, Ge(0)] = 2,
        random_blocks: Annotated[int, Ge(0)] = 3,
        pattern_seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(place)
        self.causal, self.heads = place.causal, place.heads
        self.block_size, self.window_blocks = block_size, window_blocks
        self.global_blocks, self.random_blocks = global_blocks, random_blocks
        self.pattern_seed = pattern_seed
        self.reach = None if global_blocks or random_blocks else (window_blocks + 1) * block_size - 1

    def extra_repr(self) -> str:
        counts = f"window_blocks={self.window_blocks}, global_blocks={self.global_blocks}"
        return f"block_size={self.block_size}, {counts}, random_blocks={self.random_blocks}"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query_block, key_block = query // self.block_size, key // self.block_size
        return (
            self.near(query_block, key_block)
            | self.shared(query_block, key_block)
            | self.random(head, query_block, key_block)
        )

    def near(self, query_block: Tensor, key_block: Tensor) -> Tensor:
        """The window of blocks."""
        return (query_block - key_block).abs() <= self.window_blocks

    def shared(self, query_block: Tensor, key_block: Tensor) -> Tensor:
        """Global blocks: seen by all, and seeing all."""
        return (key_block < self.global_blocks) | (query_block < self.global_blocks)

    def random(self, head: Tensor, query_block: Tensor, key_block: Tensor) -> Tensor:
        """The drawn blocks."""
        seen = torch.zeros((), dtype=torch.bool, device=key_block.device)
        for index in range(self.random_blocks):
            seen = seen | (self.draw(head, query_block, index) == key_block)
        return seen

    def draw(self, head: Tensor, query_block: Tensor, index: int) -> Tensor:
        """The block that is drawn as number ``index`` of ``random_blocks``; -1 = none.

        A block past the end may be drawn where the place is not causal.
        """
        # 64 bits: kernels count positions in 32, too few for the hash.
        head, query_block = head.to(torch.int64), query_block.to(torch.int64)
        before = (query_block - self.window_blocks - self.global_blocks).clamp(min=0)
        pool = before if self.causal else 2 * before
        start, end = pool * index // self.random_blocks, pool * (index + 1) // self.random_blocks
        bits = _mixed(_mixed(_mixed(_mixed(self.pattern_seed) ^ head) ^ query_block) ^ index)
        place = start + bits % (end - start).clamp(min=1)
        behind = place + self.global_blocks
        ahead = place - before + query_block + self.window_blocks + 1
        block = torch.where(place < before, behind, ahead)
        return torch.where(end > start, block, -1)

    def pieces(self) -> tuple[Piece, ...]:
        pieces: list[Piece] = [Blocks(self.block_size, self.window_blocks, self.window_blocks)]
        if self.global_blocks:
            shared = self.global_blocks * self.block_size
            # Causal, what global queries see is among the global keys.
            pieces += [Columns(shared)] if self.causal else [Columns(shared), Rows(shared)]
        if self.random_blocks:
            options = (self.heads, self.window_blocks, self.global_blocks, self.pattern_seed, self.causal)
            pieces.append(_Drawn(self.block_size, options, self.random_blocks, self.draw))
        return tuple(pieces)


@dataclass(frozen=True)
class _Drawn(Table):
    """The random blocks; ``options`` say which they are, and ``draw`` draws them."""

    options: tuple[int, ...]
    draws: int
    draw: Callable[[Tensor, Tensor, int], Tensor] = field(compare=False)

    # Drawn from behind the window and the global blocks.
    apart = True

    def blocks(self, count: int) -> Tensor:
        head, block = torch.arange(self.options[0]).unsqueeze(1), torch.arange(count)
        return torch.stack([self.draw(head, block, index) for index in range(self.draws)], dim=-1)


def _mixed(bits: int | Tensor) -> int | Tensor:
    """A hash of 32 bits to 32 bits by shifts and odd multipliers; nothing exceeds 63 bits on the way."""
    bits = bits & 0xFFFFFFFF
    for multiplier in (0x45D9F3B, 0x2C1B3C6D):
        bits = ((bits ^ (bits >> 16)) * multiplier + 0x9E3779B) & 0xFFFFFFFF
    return bits ^ (bits >> 16)
