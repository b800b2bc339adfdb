"""No attention: the fixed context that attention was invented to replace."""

from __future__ import annotations

from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.products import per_head
from attnbuild.attention.state import MemoryState, State
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["Fixed"]


@register("core", "none")
class Fixed(Core):
    """The encoder's summary at every step, whatever the query (Cho et al. 2014, arXiv 1406.1078, 2.2)."""

    reads_query = False
    reads_key = False
    capabilities = Capabilities(
        self_attention=False,
        causal=False,
        weights="none",
        linear_memory=True,
        reasons={"self_attention": "the fixed context is the encoder's summary; within one sequence there is none"},
    )

    def see(self, memory: Memory) -> Memory:
        return Memory(memory.summary.unsqueeze(1), None, memory.summary)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        value = per_head(value, query.shape[1])
        return Attended(value.expand(-1, -1, query.shape[2], -1))

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> MemoryState:
        return MemoryState(key, value, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, MemoryState)
        return self.attend(query, state.key, state.value, None), state
