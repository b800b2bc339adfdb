"""A window, and a few global positions with projections of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.backends import reference, sdpa
from attnbuild.attention.backends.base import Call, Need
from attnbuild.attention.backends.choose import choose
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace, Parts
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.full import Full
from attnbuild.attention.patterns.pieces import Band, Columns, Piece
from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.none import NoPosition
from attnbuild.attention.products import per_head
from attnbuild.attention.scores.scaled_dot import ScaledDot
from attnbuild.attention.span import Span
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.linear import Linear
from attnbuild.registry import register

__all__ = ["Longformer"]


class _WindowAndGlobal(Pattern):
    """The near keys, and the first ones."""

    sparse = True

    def __init__(self, place: HeadPlace, window: int, dilation: int, global_tokens: int) -> None:
        super().__init__(place)
        self.band = Band(window * dilation, window * dilation, dilation)
        self.columns = Columns(global_tokens)

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.band.sees(head, query, key) | self.columns.sees(head, query, key)

    def pieces(self) -> tuple[Piece, ...]:
        return self.band, self.columns


@register("core", "longformer")
class Longformer(Core):
    """Sliding window with global positions, those with projections of their own (Beltagy et al. 2020, 3.1).

    The first positions are global: they see all and all see them. What they ask and see goes through a second set
    of query, key and value projections; what others see of them goes through the first, as in the authors' code.
    The second set starts as a copy of the first. All six have biases; ``bias`` concerns the output alone.

    Args:
        window: how many positions to each side are seen.
        dilation: the distance between two of them; 1 = the plain window.
        global_tokens: how many positions at the start are global.
        dropout: probability of dropping a weight in training.
    """

    owns_projections = True
    capabilities = Capabilities(
        causal=False,
        cross_attention=False,
        incremental=False,
        linear_memory=True,
        reasons={
            "causal": "its global positions see the whole sequence, and every position sees them: "
            "that would show the future; use window, or bigbird, whose causal global blocks see their past alone",
            "cross_attention": "a window follows the query's own position, which means nothing in another sequence",
            "incremental": "its global positions see the whole sequence",
        },
    )

    def __init__(
        self,
        place: CorePlace,
        *,
        window: Annotated[int, Ge(0)] = 16,
        dilation: Annotated[int, Ge(1)] = 1,
        global_tokens: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__(place)
        self.window, self.dilation, self.global_tokens, self.dropout = window, dilation, global_tokens, dropout
        width = place.dim // place.heads
        self.query, self.global_query = _pair(place.dim, place.heads * width)
        self.key, self.global_key = _pair(place.dim, place.kv_heads * width)
        self.value, self.global_value = _pair(place.dim, place.kv_heads * width)
        head = replace(place, query_dim=width, key_dim=width, value_dim=width)
        shared = {"score": ScaledDot(head), "weighting": Softmax(head), "position": NoPosition(head)}
        self.near = Parts(**shared, pattern=_WindowAndGlobal(head, window, dilation, global_tokens))
        self.everywhere = Parts(**shared, pattern=Full(head))
        self.after_initialisation()

    def after_initialisation(self) -> None:
        """Start the global projections as copies of the others (section 3.1), however those were drawn."""
        for name in ("query", "key", "value"):
            getattr(self, f"global_{name}").load_state_dict(getattr(self, name).state_dict())

    def extra_repr(self) -> str:
        return f"window={self.window}, dilation={self.dilation}, global_tokens={self.global_tokens}"

    def need(self) -> Need:
        """What the window asks of a backend, as far as it is known without a call; the global rows run dense."""
        return Need(parts=self.near, place=self.place)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        states, count = query.squeeze(1), min(self.global_tokens, query.shape[2])
        local = self._call(states, self.query, self.key, self.value, self.near, key_padding_mask, need_weights)
        twins = self.global_query, self.global_key, self.global_value
        wide = self._call(states, *twins, self.everywhere, key_padding_mask, need_weights)
        wide = replace(wide, query=wide.query[:, :, :count], queries_at=Span(0, count))
        rest = (reference if need_weights else choose(local.need())).run(local)
        first = (reference if need_weights else sdpa).run(wide)
        values = torch.cat([first.values, rest.values[:, :, count:]], dim=2)
        if first.weights is None or rest.weights is None:
            return Attended(values)
        return Attended(values, torch.cat([first.weights, rest.weights[:, :, count:]], dim=2))

    def mix(self, weights: Tensor, value: Tensor) -> Tensor:
        states, count = value.squeeze(1), min(self.global_tokens, weights.shape[2])
        local, wide = (
            per_head(self._split(part(states)), self.place.heads) for part in (self.value, self.global_value)
        )
        return torch.cat([weights[:, :, :count] @ wide, weights[:, :, count:] @ local], dim=2)

    def _call(
        self,
        states: Tensor,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        parts: Parts,
        key_padding_mask: Tensor | None,
        need_weights: bool,
    ) -> Call:
        positions = Span(0, states.shape[1])
        return Call(
            query=self._split(query(states)),
            key=self._split(key(states)),
            value=self._split(value(states)),
            queries_at=positions,
            keys_at=positions,
            parts=parts,
            place=self.place,
            key_padding_mask=key_padding_mask,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )

    def _split(self, states: Tensor) -> Tensor:
        """(B, N, heads x D) -> (B, heads, N, D)."""
        return states.unflatten(-1, (-1, self.place.dim // self.place.heads)).transpose(1, 2)


def _pair(inputs: int, outputs: int) -> tuple[nn.Linear, nn.Linear]:
    """A projection and its global twin."""
    one, twin = Linear(inputs, outputs), Linear(inputs, outputs)
    nn.init.xavier_uniform_(one.weight)
    nn.init.zeros_(one.bias)
    return one, twin
