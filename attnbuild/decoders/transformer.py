"""The Transformer decoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.core.base import Attended
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.state import State
from attnbuild.decoders.base import Decoded, DecoderPlace, DecoderState, Generator, Step
from attnbuild.embedding import Embedding, Positions
from attnbuild.feedforward import Activation, FeedForward
from attnbuild.linear import Linear
from attnbuild.memory import Memory
from attnbuild.registry import register
from attnbuild.residual import Norm, Residual, require_width

__all__ = ["TransformerDecoder"]


@dataclass
class _LayerState(State):
    self_attention: State
    cross_attention: State


@dataclass
class _TransformerState(DecoderState):
    position: int
    layers: list[_LayerState]


class _Layer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each with its residual."""

    def __init__(
        self,
        place: DecoderPlace,
        layer: int,
        *,
        dim: int,
        feedforward: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        cross = place.attention("cross_attention", dim=dim, memory_dim=place.memory_dim, layer=layer)
        self.self_attention = require_width(place.attention("self_attention", dim=dim, layer=layer), dim)
        self.cross_attention = require_width(cross, dim)
        self.feedforward = FeedForward(dim, feedforward, activation=activation, dropout=dropout)
        self.self_residual = Residual(dim, norm=norm, dropout=dropout)
        self.cross_residual = Residual(dim, norm=norm, dropout=dropout, reads_input=cross.core.reads_query)
        self.feedforward_residual = Residual(dim, norm=norm, dropout=dropout)

    def forward(self, states: Tensor, memory: Memory, need_weights: bool) -> tuple[Tensor, list[Attended]]:
        """(B, T, dim) -> (B, T, dim), and what self- and cross-attention gave."""
        given: list[Attended] = []

        def attend_self(query: Tensor) -> Tensor:
            # Padding is at the right, where causality hides it from every real position: no mask needed.
            given.append(self.self_attention.attend(query, Memory(query, None, query[:, 0])))
            return given[-1].values

        def attend_memory(query: Tensor) -> Tensor:
            given.append(self.cross_attention.attend(query, memory, need_weights))
            return given[-1].values

        states = self.self_residual(states, attend_self)
        states = self.cross_residual(states, attend_memory)
        return self.feedforward_residual(states, self.feedforward), given

    def start(self, memory: Memory) -> _LayerState:
        return _LayerState(self.self_attention.start(memory), self.cross_attention.start(memory))

    def step(
        self, states: Tensor, state: _LayerState, sentences: int, need_weights: bool
    ) -> tuple[Tensor, _LayerState, Tensor | None]:
        weights = None
        own, remembered = state.self_attention, state.cross_attention

        def attend_self(query: Tensor) -> Tensor:
            nonlocal own
            attended, own = self.self_attention.step(query, own, sentences)
            return attended.values

        def attend_memory(query: Tensor) -> Tensor:
            nonlocal remembered, weights
            attended, remembered = self.cross_attention.step(query, remembered, sentences, need_weights)
            weights = attended.weights
            return attended.values

        states = self.self_residual(states, attend_self)
        states = self.cross_residual(states, attend_memory)
        states = self.feedforward_residual(states, self.feedforward)
        return states, _LayerState(own, remembered), weights


@register("decoder", "transformer")
class TransformerDecoder(Generator):
    """Causal self-attention, cross-attention and feed-forward layers (Vaswani et al. 2017, 3.1).

    Args:
        dim: width of the states.
        layers: number of layers.
        feedforward: width inside the position-wise network.
        dropout: probability of dropping a channel, after each sublayer and the embedding.
        norm: layer norm before (pre) or after (post, as in the paper) each sublayer.
        activation: of the position-wise network.
        positions: how place enters the embedding; none where the attention has positions of its own.
        max_positions: the longest sequence, for learned positions.
    """

    places = {"self_attention": PlaceKind(causal=True), "cross_attention": PlaceKind(cross=True)}

    def __init__(
        self,
        place: DecoderPlace,
        *,
        dim: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 3,
        feedforward: Annotated[int, Ge(1)] = 1024,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        norm: Norm = "pre",
        activation: Activation = "relu",
        positions: Positions = "sinusoidal",
        max_positions: Annotated[int, Ge(1)] = 512,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(
            place.outputs,
            dim,
            positions=positions,
            max_positions=max_positions,
            scale=True,
            dropout=dropout,
        )
        self.layers = nn.ModuleList(
            _Layer(
                place,
                layer,
                dim=dim,
                feedforward=feedforward,
                norm=norm,
                activation=activation,
                dropout=dropout,
            )
            for layer in range(layers)
        )
        self.norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()
        self.output = Linear(dim, place.outputs, bias=False)

    def forward(self, target: Tensor, memory: Memory, need_weights: bool = False) -> Decoded:
        states, given = self.embedding(target), []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            states, attended = layer(states, memory, need_weights and index == last)
            given += attended
        choices = [attended.choice for attended in given if attended.choice is not None]
        return Decoded(self.output(self.norm(states)), given[-1].weights, choices)

    def start(self, memory: Memory) -> _TransformerState:
        sentences = memory.states.shape[0]
        layers = [layer.start(memory) for layer in self.layers if isinstance(layer, _Layer)]
        return _TransformerState(sentences, sentences, 0, layers)

    def step(self, tokens: Tensor, state: DecoderState, need_weights: bool = False) -> Step:
        assert isinstance(state, _TransformerState)
        states, weights = self.embedding(tokens.unsqueeze(1), first=state.position), None
        layers: list[_LayerState] = []
        last = len(self.layers) - 1
        for layer, before in zip(self.layers, state.layers, strict=True):
            assert isinstance(layer, _Layer)
            wanted = need_weights and len(layers) == last
            states, after, weights = layer.step(states, before, state.sentences, wanted)
            layers.append(after)
        logits = self.output(self.norm(states)).squeeze(1)
        new_state = dataclasses.replace(state, position=state.position + 1, layers=layers)
        return Step(logits, new_state, None if weights is None else weights.squeeze(2))
