"""The recurrent decoder, in Bahdanau's or in Luong's wiring."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.choice import Choice
from attnbuild.attention.core.base import Attended
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.state import State, per_row
from attnbuild.decoders.base import Decoded, Decoder, DecoderPlace, DecoderState, Step
from attnbuild.embedding import Embedding
from attnbuild.memory import Memory
from attnbuild.registry import register
from attnbuild.rnn import Cell, initialise_recurrent

__all__ = ["RNNDecoder"]


@dataclass
class _RNNState(DecoderState):
    """What the recurrent decoder remembers.

    Attributes:
        attention: of the cross-attention.
        hidden: (R, layers, dim).
        cell: (R, layers, dim), the LSTM's memory; unused by a GRU.
        fed: (R, width), what the last step feeds to the next input (Luong's wiring).
    """

    attention: State
    hidden: Tensor = per_row()
    cell: Tensor = per_row()
    fed: Tensor = per_row()


class _Cells(nn.Module):
    """A stack of cells, advanced one step."""

    def __init__(self, inputs: int, dim: int, layers: int, cell: Cell, dropout: float) -> None:
        super().__init__()
        make = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[cell]
        self.layers = nn.ModuleList(make(inputs if layer == 0 else dim, dim) for layer in range(layers))
        self.dropout = nn.Dropout(dropout)
        for layer in self.layers:
            initialise_recurrent(layer)

    def forward(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(R, inputs), (R, layers, dim) twice -> the new hidden and cell states."""
        hiddens, cells = [], []
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.LSTMCell):
                new_hidden, new_cell = layer(inputs, (hidden[:, index], cell[:, index]))
            else:
                new_hidden, new_cell = layer(inputs, hidden[:, index]), cell[:, index]
            hiddens.append(new_hidden)
            cells.append(new_cell)
            inputs = self.dropout(new_hidden)
        return torch.stack(hiddens, dim=1), torch.stack(cells, dim=1)


class _Maxout(nn.Module):
    """max over pairs of channels (Goodfellow et al. 2013): the deep output of Bahdanau et al. 2015, A.2.2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, 2 * outputs)

    def forward(self, states: Tensor) -> Tensor:
        return self.project(states).unflatten(-1, (-1, 2)).amax(dim=-1)


@register("decoder", "rnn")
class RNNDecoder(Decoder):
    """LSTM or GRU layers with one attention over the memory.

    bahdanau: the last state asks, and the context enters the cell; a maxout layer reads word, context and
    the new state, as in equation 4 (A.2.2 writes the last state there) (Bahdanau et al. 2015, A.2.2).
    luong: the new state asks, tanh(W [context; state]) is read and, with input feeding, enters the next
    step (Luong et al. 2015, equation 5 and section 3.3).

    Args:
        dim: width of the states and the target embedding.
        layers: number of layers.
        cell: lstm or gru.
        wiring: bahdanau (context before the cell) or luong (context after it).
        input_feeding: luong only, feed the attentional state to the next step.
        dropout: probability of dropping a channel, after the embedding, between layers and before the output.
    """

    places = {"cross_attention": PlaceKind(cross=True, sequential=True)}

    def __init__(
        self,
        place: DecoderPlace,
        *,
        dim: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 1,
        cell: Cell = "lstm",
        wiring: Literal["bahdanau", "luong"] = "luong",
        input_feeding: bool = True,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.dim, self.layers = dim, layers
        self.context_first = wiring == "bahdanau"
        self.embedding = Embedding(place.vocabulary, dim, dropout=dropout)
        self.attention = place.attention("cross_attention", dim=dim, memory_dim=place.memory_dim)
        context = self.attention.out_dim
        # What joins the embedded word at the cell: the context, the fed state or nothing.
        self.fed_width = context if self.context_first else dim if input_feeding else 0
        self.cells = _Cells(dim + self.fed_width, dim, layers, cell, dropout)
        self.initial_hidden = nn.Linear(place.memory_dim, layers * dim)
        self.initial_cell = nn.Linear(place.memory_dim, layers * dim) if cell == "lstm" else None
        self.readout = (
            _Maxout(2 * dim + context, dim)
            if self.context_first
            else nn.Sequential(nn.Linear(context + dim, dim, bias=False), nn.Tanh())
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, place.vocabulary, bias=False)

    def forward(self, target: Tensor, memory: Memory, need_weights: bool = False) -> Decoded:
        embedded, state = self.embedding(target), self.start(memory)
        outputs, given = [], []
        for step in range(target.shape[1]):
            output, state, attended = self._advance(embedded[:, step], state, need_weights)
            outputs.append(output)
            given.append(attended)
        weights = [attended.weights for attended in given if attended.weights is not None]
        choices = [attended.choice for attended in given if attended.choice is not None]
        return Decoded(
            self.output(self.dropout(torch.stack(outputs, dim=1))),
            torch.cat(weights, dim=2) if weights else None,
            [Choice.in_sequence(choices)] if choices else [],
        )

    def start(self, memory: Memory) -> _RNNState:
        sentences = memory.states.shape[0]
        shape = (sentences, self.layers, self.dim)
        hidden = torch.tanh(self.initial_hidden(memory.summary)).view(shape)
        cell = torch.tanh(self.initial_cell(memory.summary)).view(shape) if self.initial_cell else hidden
        fed = hidden.new_zeros(sentences, 0 if self.context_first else self.fed_width)
        return _RNNState(sentences, sentences, self.attention.start(memory), hidden, cell, fed)

    def step(self, tokens: Tensor, state: DecoderState, need_weights: bool = False) -> Step:
        assert isinstance(state, _RNNState)
        output, new_state, attended = self._advance(self.embedding(tokens.unsqueeze(1)).squeeze(1), state, need_weights)
        weights = None if attended.weights is None else attended.weights.squeeze(2)
        return Step(self.output(self.dropout(output)), new_state, weights)

    def _advance(self, embedded: Tensor, state: _RNNState, need_weights: bool) -> tuple[Tensor, _RNNState, Attended]:
        """One step: the embedded word (R, dim) -> what is read out (R, dim), state, what attention gave."""
        if self.context_first:
            attended, attention = self._attend(state.hidden[:, -1], state, need_weights)
            context = attended.values.squeeze(1)
            hidden, cell = self.cells(torch.cat([embedded, context], dim=-1), state.hidden, state.cell)
            output, fed = self.readout(torch.cat([hidden[:, -1], embedded, context], dim=-1)), state.fed
        else:
            hidden, cell = self.cells(torch.cat([embedded, state.fed], dim=-1), state.hidden, state.cell)
            attended, attention = self._attend(hidden[:, -1], state, need_weights)
            context = attended.values.squeeze(1)
            output = self.readout(torch.cat([context, hidden[:, -1]], dim=-1))
            fed = output if self.fed_width else state.fed
        state = dataclasses.replace(state, hidden=hidden, cell=cell, fed=fed, attention=attention)
        return output, state, attended

    def _attend(self, query: Tensor, state: _RNNState, need_weights: bool) -> tuple[Attended, State]:
        return self.attention.step(query.unsqueeze(1), state.attention, state.sentences, need_weights)
