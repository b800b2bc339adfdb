"""What the local attentions of Luong et al. 2015 share: a window of keys around a centre of each query's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor

from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.patterns.window import Window
from attnbuild.attention.products import mixed, per_head
from attnbuild.attention.state import MemoryState, State
from attnbuild.step_gradients.gathering import read_by_steps

__all__ = ["Local"]


@dataclass
class LocalState(MemoryState):
    """The memory's keys and values, and how many queries have been answered.

    Attributes:
        step: position of the next query, the same for all rows.
    """

    step: int = 0


class Local(Core):
    """Base of both: weights over the keys within the window, times a factor of the distance to its centre."""

    part_kinds = ("score", "weighting")

    def __init__(
        self,
        place: CorePlace,
        *,
        window: Annotated[int, Ge(0)] = 10,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.score, self.weighting = place.parts.score, place.parts.weighting
        self.pattern = Window(place, window=window)
        self.dropout = dropout

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"

    def centre(self, query: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
        """Where each query looks, broadcastable to (B, H, N, 1), in fp32 at least.

        Args:
            query: (B, H, N, D), as the core gets it.
            positions: (N,), of the queries in their own sequence.
            lengths: (B, 1, 1, 1), number of real keys.
        """
        raise NotImplementedError

    def focus(self, distance: Tensor) -> Tensor | None:
        """The factor of the weights, from the distances of keys to the centre; None = no factor."""
        return None

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        positions = torch.arange(query.shape[2], device=query.device)
        return self._attend(query, self.score.key(key), value, positions, key_padding_mask, need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> LocalState:
        return LocalState(read_by_steps(self.score.key(key)), value, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, LocalState)
        positions = torch.full((query.shape[2],), state.step, device=query.device)  # the beams are at one step
        attended = self._attend(query, state.key, state.value, positions, state.key_padding_mask, need_weights)
        return attended, LocalState(state.key, state.value, state.key_padding_mask, state.step + 1)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        positions: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool,
    ) -> Attended:
        """Raw queries at their positions against transformed keys."""
        key, value = (per_head(states, query.shape[1]) for states in (key, value))
        scores = self.score.rate(self.score.query(query), key)
        # In fp32 at least: half precision loses weights, and cannot count positions.
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        key_positions = torch.arange(key.shape[2], device=query.device)
        centre = self.centre(query, positions, _count_real(key, key_padding_mask))
        head = torch.arange(query.shape[1], device=query.device).view(1, -1, 1, 1)
        allowed = self.pattern.mask_mod(head, centre, key_positions)
        if key_padding_mask is not None:
            allowed = allowed & ~key_padding_mask[:, None, None, :]
        weights = self.weighting(scores, allowed)
        factor = self.focus(key_positions - centre)
        weights = (weights if factor is None else weights * factor).to(value.dtype)
        values = mixed(F.dropout(weights, self.dropout, self.training), value)
        return Attended(values, weights if need_weights else None)


def _count_real(key: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """How many keys are real, (B, 1, 1, 1); padding stands after them."""
    if key_padding_mask is None:
        return torch.full((key.shape[0], 1, 1, 1), key.shape[2], device=key.device)
    return (~key_padding_mask).sum(dim=1).view(-1, 1, 1, 1)
