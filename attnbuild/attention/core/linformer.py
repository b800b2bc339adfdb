"""Keys and values projected along the length to a fixed number of slots."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.products import per_head
from attnbuild.attention.state import MemoryState, State
from attnbuild.linear import Linear
from attnbuild.registry import register

__all__ = ["Linformer"]


@register("core", "linformer")
class Linformer(Core):
    """softmax(Q (E K)' / sqrt(d)) F V, E and F of projected_len x length (Wang et al. 2020, arXiv 2006.04768, eq. 7).

    Shorter inputs use the first columns of E and F, and padding is zeroed before it is projected, so one layer
    serves all lengths up to ``max_len``. The softmax runs over the slots; the weights returned are those of the
    source positions, softmax(...) F, which may be negative. As in the paper keys and values have no biases, so where
    heads share E the order is free, E (X W) = (E X) W: where slots are fewer, keys and values of all positions are
    never formed. ``bias`` concerns the output alone.

    Args:
        projected_len: slots that keys and values are projected to, the paper's k.
        max_len: longest input; E and F hold one column for each position.
        share: none = E and F for each key head; heads = one E and one F; key_value = one matrix for both (section 4).
        dropout: probability of dropping a weight in training.
    """

    owns_projections = True
    capabilities = Capabilities(
        causal=False,
        weights="effective",
        linear_memory=True,
        reasons={"causal": "it projects along the length, so each slot mixes the future with the past"},
    )

    def __init__(
        self,
        place: CorePlace,
        *,
        projected_len: Annotated[int, Ge(1)] = 128,
        max_len: Annotated[int, Ge(1)] = 1024,
        share: Literal["none", "heads", "key_value"] = "heads",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        self.max_len, self.dropout, self.share = max_len, dropout, share
        width = place.dim // place.heads
        self.scale = 1.0 / math.sqrt(width)
        self.query_projection = _linear(place.dim, place.heads * width)
        self.key_projection = _linear(place.memory_dim, place.kv_heads * width)
        self.value_projection = _linear(place.memory_dim, place.kv_heads * width)
        heads = (place.kv_heads,) if share == "none" else ()
        self.key_slots = nn.Parameter(torch.empty(*heads, projected_len, max_len))
        self.value_slots = None if share == "key_value" else nn.Parameter(torch.empty(*heads, projected_len, max_len))
        for slots in (self.key_slots, self.value_slots):
            if slots is not None:
                # The paper's random projection (theorem 2): entries of variance 1 / k.
                nn.init.normal_(slots, std=1.0 / math.sqrt(projected_len))

    def extra_repr(self) -> str:
        return f"projected_len={self.key_slots.shape[-2]}, max_len={self.max_len}, share={self.share}"

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        return super().mix(weights, _split(self.value_projection(value.squeeze(1)), self.place.kv_heads))

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        return self._attend(query, self.remember(key, value, key_padding_mask), need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> MemoryState:
        """Keys and values of the slots, (B, K, projected_len, D)."""
        states = value.squeeze(1)
        if key_padding_mask is None:
            # The state holds slots: only the mask still tells how long the source is.
            key_padding_mask = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
        else:
            states = states.masked_fill(key_padding_mask.unsqueeze(-1), 0.0)
        return MemoryState(
            self._into_slots(states, self.key_slots, self.key_projection),
            self._into_slots(states, self._value_slots, self.value_projection),
            key_padding_mask,
        )

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, MemoryState)
        return self._attend(query, state, need_weights), state

    @property
    def _value_slots(self) -> Tensor:
        return self.key_slots if self.value_slots is None else self.value_slots

    def _into_slots(self, states: Tensor, slots: Tensor, projection: nn.Module) -> Tensor:
        """(B, S, memory_dim) -> (B, K, projected_len, D)."""
        slots = slots[..., : states.shape[1]]
        if self.share != "none" and slots.shape[0] <= slots.shape[1]:
            return _split(projection(torch.einsum("rs,bsd->brd", slots, states)), self.place.kv_heads)
        heads = "krs,bksd->bkrd" if self.share == "none" else "rs,bksd->bkrd"
        return torch.einsum(heads, slots, _split(projection(states), self.place.kv_heads))

    def _attend(self, query: Tensor, state: MemoryState, need_weights: bool) -> Attended:
        """Raw queries (B, 1, N, dim) against slots."""
        query = _split(self.query_projection(query.squeeze(1)), self.place.heads)
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            grouped = self.place.kv_heads != self.place.heads
            return Attended(
                F.scaled_dot_product_attention(
                    query, state.key, state.value, dropout_p=dropout, scale=self.scale, enable_gqa=grouped
                )
            )
        key, value = (per_head(tensor, self.place.heads) for tensor in (state.key, state.value))
        scores = query @ key.transpose(-2, -1) * self.scale
        precision = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.to(precision).softmax(dim=-1).to(value.dtype)
        assert state.key_padding_mask is not None
        return Attended(F.dropout(weights, dropout) @ value, self._over_positions(weights, state.key_padding_mask))

    def _over_positions(self, weights: Tensor, key_padding_mask: Tensor) -> Tensor:
        """Weights of slots (B, H, N, projected_len) -> of source positions (B, H, N, S)."""
        slots = self._value_slots[..., : key_padding_mask.shape[1]]
        if self.share == "none":
            slots = slots.repeat_interleave(self.place.heads // self.place.kv_heads, dim=0)
        return (weights @ slots.to(weights.dtype)).masked_fill(key_padding_mask[:, None, None, :], 0.0)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = Linear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def _split(states: Tensor, heads: int) -> Tensor:
    """(B, N, heads x D) -> (B, heads, N, D)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)
