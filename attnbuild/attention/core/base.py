"""What every core does: attend to whole sequences, and step by step.

Shape letters: B sentences, H heads, K key heads, N queries, S keys, D widths, R rows (sentences x beams).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.choice import Choice
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.products import mixed, per_head
from attnbuild.attention.state import State
from attnbuild.memory import Memory

__all__ = ["Attended", "Core"]


@dataclass
class Attended:
    """What attending gives.

    Attributes:
        values: (B, H, N, Dv) from a core, (B, N, D) from a block.
        weights: (B, H, N, S) where asked for and where the core has weights, else None.
        choice: what a sampled core chose, where its gradient needs the reward; else None.
    """

    values: Tensor
    weights: Tensor | None = None
    choice: Choice | None = None


class Core(nn.Module):
    """Base of cores.

    Attributes:
        capabilities: what the core can do, before its parts take something away.
        reads_query: whether the query matters; where it does not, nothing that would prepare it is built.
        reads_key: whether the key matters; where it does not, it is the value.
        owns_projections: the core projects queries, keys and values itself: it gets the raw states as one head,
            (B, 1, N, dim) and (B, 1, S, memory_dim), and still gives values of all heads. The block projects
            the merged heads.
        part_kinds: the registry kinds of the parts it is composed of; others are refused.
        max_len: the longest input of a core that has an option of this name; None = any. The block refuses more.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    reads_query: ClassVar[bool] = True
    reads_key: ClassVar[bool] = True
    owns_projections: ClassVar[bool] = False
    part_kinds: ClassVar[tuple[str, ...]] = ()
    max_len: int | None = None

    def __init__(self, place: CorePlace) -> None:
        super().__init__()
        self.place = place

    @classmethod
    def composed(cls, makers: Mapping[str, Any], options: Mapping[str, Any]) -> Capabilities:
        """What the core can do when made of these classes of parts, by kind, with these options of its own."""
        return cls.capabilities

    def see(self, memory: Memory) -> Memory:
        """What of the memory is projected to keys and values."""
        return memory

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        """The values that returned weights stand for: (B, H, N, S), the value as attended to -> (B, H, N, Dv)."""
        return mixed(weights, per_head(value, weights.shape[1]))

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
