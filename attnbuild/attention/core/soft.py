"""The soft family: score x pattern x weighting x position, any of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Interval
from torch import Tensor

from attnbuild.attention.backends.base import Call, Need
from attnbuild.attention.backends.choose import BACKENDS, Chosen, choose
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.span import Span
from attnbuild.attention.state import CacheState, MemoryState, State
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.errors import ConfigError
from attnbuild.registry import register
from attnbuild.step_gradients.gathering import read_by_steps

__all__ = ["Soft"]

_log = logging.getLogger(__name__)


@register("core", "soft")
class Soft(Core):
    """Each value counts by the weight of its key: sum_j w_ij v_j (Bahdanau et al. 2015; Vaswani et al. 2017).

    Args:
        dropout: probability of dropping a weight in training.
        backend: who computes it; auto = by device, length and parts, what was measured to be fastest.
    """

    part_kinds = ("score", "pattern", "weighting", "position")

    def __init__(
        self,
        place: CorePlace,
        *,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        backend: Literal["auto", "reference", "sdpa", "blocksparse", "flex"] = "auto",
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.score, self.pattern = place.parts.score, place.parts.pattern
        self.weighting, self.position = place.parts.weighting, place.parts.position
        self.dropout, self.backend = dropout, backend
        self.told: set[str] = set()  # reasons for another backend than the named one that the user has read
        refused = None if backend == "auto" else BACKENDS[backend].refusal(self.need())
        if refused:
            raise ConfigError(
                f"backend {backend!r} cannot serve here: {refused}; choose 'auto'", f"{place.name}.backend"
            )

    @classmethod
    def composed(cls, makers: Mapping[str, Any], options: Mapping[str, Any]) -> Capabilities:
        able = makers["score"].dot_like and makers["weighting"] is Softmax and makers["pattern"].sparse
        sparse = able and options.get("backend", "auto") not in ("reference", "sdpa")
        return replace(cls.capabilities, linear_memory=sparse)

    def extra_repr(self) -> str:
        return f"backend={self.backend}, dropout={self.dropout}"

    def need(self) -> Need:
        """What is asked of a backend, as far as it is known without a call."""
        assert self.place.parts is not None
        return Need(parts=self.place.parts, place=self.place)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        now, at = Span(0, query.shape[2]), Span(0, key.shape[2])
        key = self.position.rotated(self.score.key(key), at)
        return self._attend(query, key, value, now, at, key_padding_mask, need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> MemoryState:
        return MemoryState(read_by_steps(self.score.key(key)), value, key_padding_mask)

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, MemoryState)
        # No position enters between sequences, so where the beams stand on the query axis is all one.
        now, at = Span(0, query.shape[2]), Span(0, state.key.shape[2])
        attended = self._attend(query, state.key, state.value, now, at, state.key_padding_mask, need_weights)
        return attended, state

    def begin(self, like: Tensor) -> CacheState:
        rows, heads = like.shape[0], self.place.kv_heads
        # The score decides how wide a transformed key is: ask it, on an empty key.
        empty = like.new_zeros(rows, heads, 0, self.place.key_dim)
        return CacheState(self.score.key(empty), like.new_zeros(rows, heads, 0, self.place.value_dim))

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        assert isinstance(state, CacheState)
        now = Span(state.length, state.length + 1)
        key = self.position.rotated(self.score.key(key), now)
        state = state.append(key, value, self.pattern.reach)
        at = Span(state.first, state.length)
        return self._attend(query, state.key, state.value, now, at, None, need_weights), state

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        now: Span,
        at: Span,
        key_padding_mask: Tensor | None,
        need_weights: bool,
    ) -> Attended:
        """Raw queries at positions ``now`` against transformed keys ``at`` theirs."""
        assert self.place.parts is not None
        call = Call(
            query=self.position.rotated(self.score.query(query), now),
            key=key,
            value=value,
            queries_at=now,
            keys_at=at,
            parts=self.place.parts,
            place=self.place,
            key_padding_mask=key_padding_mask,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        answer = self._chosen(call).run(call)
        return Attended(answer.values, answer.weights)

    def _chosen(self, call: Call) -> Chosen:
        """The backend of a call; weights are given by the reference alone."""
        if call.need_weights:
            return Chosen("reference", "weights are asked for")
        need = call.need()
        if self.backend == "auto":
            return choose(need)
        refused = BACKENDS[self.backend].refusal(need)
        if refused is None:
            return Chosen(self.backend, "named in the config")
        chosen = choose(need)
        # A named backend that serves whole sequences leaves single steps to the dense ones, as a matter of course.
        if call.query.shape[2] > 1 and refused not in self.told:
            self.told.add(refused)
            place, named = self.place.name, self.backend
            _log.warning("%s: backend %r cannot serve here, %r runs instead: %s", place, named, chosen.name, refused)
        return chosen
