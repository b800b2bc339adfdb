"""What every core does: attend to whole sequences, and step by step.

Shape letters: B sentences, H heads, K key heads, N queries, S keys, D widths, R rows (sentences x beams).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.state import State
from attnbuild.memory import Memory

__all__ = ["Attended", "Core"]


@dataclass
class Attended:
    """What attending gives.

    Attributes:
        values: (B, H, N, Dv) from a core, (B, N, D) from a block.
        weights: (B, H, N, S) where asked for and where the core has weights, else None.
        log_prob: (B, N), log probability of what a sampled core chose, else None.
        entropy: (B, N), of the distribution it was drawn from, else None.
    """

    values: Tensor
    weights: Tensor | None = None
    log_prob: Tensor | None = None
    entropy: Tensor | None = None


class Core(nn.Module):
    """Base of cores.

    Attributes:
        capabilities: what the core can do, before its parts take something away.
        reads_query: whether query and key matter; where they do not, nothing that would prepare them is built.
        part_kinds: the registry kinds of the parts it is composed of; others are refused.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    reads_query: ClassVar[bool] = True
    part_kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(self, place: CorePlace) -> None:
        super().__init__()
        self.place = place

    def see(self, memory: Memory) -> Memory:
        """What of the memory is projected to keys and values."""
        return memory

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        """Whole sequences: (B, H, N, Dq), (B, K, S, Dk), (B, K, S, Dv), (B, S) -> values (B, H, N, Dv)."""
        raise NotImplementedError

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> State:
        """Cross-attention: the state of a decoding over these (B, K, S, D) keys and values."""
        raise NotImplementedError

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        """Cross-attention, one step: the beams of a sentence stand on the query axis, (B, H, beams, Dq)."""
        raise NotImplementedError

    def begin(self, like: Tensor) -> State:
        """Self-attention: the state before the first token; ``like`` (R, ...) gives rows, dtype and device."""
        raise NotImplementedError

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        """Self-attention, one step: (R, H, 1, Dq), (R, K, 1, Dk), (R, K, 1, Dv)."""
        raise NotImplementedError
