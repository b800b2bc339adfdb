"""The recurrent decoder, in the wiring of one of three papers."""

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
from attnbuild.decoders.base import Decoded, DecoderPlace, DecoderState, Generator, Step
from attnbuild.decoders.wirings.bahdanau import Bahdanau
from attnbuild.decoders.wirings.base import Wiring
from attnbuild.decoders.wirings.luong import Luong
from attnbuild.decoders.wirings.show_attend_tell import ShowAttendTell
from attnbuild.dropout import Dropout
from attnbuild.embedding import Embedding
from attnbuild.linear import Linear
from attnbuild.memory import Memory
from attnbuild.registry import register
from attnbuild.rnn import Cell, gru_step, initialise_recurrent, lstm_step
from attnbuild.step_gradients.weights import weights_read_by_steps

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
        self.dropout = Dropout(dropout)
        for layer in self.layers:
            initialise_recurrent(layer)

    def forward(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """(R, inputs), (R, layers, dim) twice -> the new hidden and cell states."""
        hiddens, cells = [], []
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.LSTMCell):
                new_hidden, new_cell = lstm_step(layer, inputs, hidden[:, index], cell[:, index])
            else:
                assert isinstance(layer, nn.GRUCell)
                new_hidden, new_cell = gru_step(layer, inputs, hidden[:, index]), cell[:, index]
            hiddens.append(new_hidden)
            cells.append(new_cell)
            inputs = self.dropout(new_hidden)
        return torch.stack(hiddens, dim=1), torch.stack(cells, dim=1)


#: How attention, cells and output are joined.
_WIRINGS: dict[str, type[Wiring]] = {"bahdanau": Bahdanau, "luong": Luong, "show_attend_tell": ShowAttendTell}


@register("decoder", "rnn")
class RNNDecoder(Generator):
    """LSTM or GRU layers with one attention over the memory.

    bahdanau: the last state asks, and the context enters the cell; a maxout layer reads word, context and
    the new state, as in equation 4 (A.2.2 writes the last state there) (Bahdanau et al. 2015, A.2.2).
    luong: the new state asks, tanh(W [context; state]) is read and, with input feeding, enters the next
    step (Luong et al. 2015, equation 5 and section 3.3).
    show_attend_tell: the last state asks, the context is scaled by a gate and enters the cell; the output layer
    reads the sum of word, new state and context (Xu et al. 2015, equation 7 and section 4.2.1).

    Args:
        dim: width of the states and the target embedding.
        layers: number of layers.
        cell: lstm or gru.
        wiring: bahdanau (context before the cell), luong (context after it) or show_attend_tell (a gated context
            before it, initial states from the mean of the memory).
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
        wiring: Literal["bahdanau", "luong", "show_attend_tell"] = "luong",
        input_feeding: bool = True,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        self.dim, self.layers = dim, layers
        self.embedding = Embedding(place.outputs, dim, dropout=dropout)
        self.attention = place.attention("cross_attention", dim=dim, memory_dim=place.memory_dim)
        context = self.attention.out_dim
        joins = _WIRINGS[wiring]
        self.cells = _Cells(dim + joins.width(dim, context, input_feeding), dim, layers, cell, dropout)
        self.initial_hidden = Linear(place.memory_dim, layers * dim)
        self.initial_cell = Linear(place.memory_dim, layers * dim) if cell == "lstm" else None
        # The wiring; checkpoints know it by what most of its matrices do.
        self.readout = joins(dim, context, input_feeding=input_feeding, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.output = Linear(dim, place.outputs, bias=False)
        self.never_tied = joins.never_tied

    def forward(self, target: Tensor, memory: Memory, need_weights: bool = False) -> Decoded:
        embedded, state = self.embedding(target), self.start(memory)
        outputs, given = [], []
        with weights_read_by_steps(self.cells, self.readout, self.attention):
            for word in embedded.unbind(dim=1):  # an index would give each step a gradient of the size of all
                output, state, attended = self._advance(word, state, need_weights)
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
        gist = self.readout.gist(memory)
        hidden = torch.tanh(self.initial_hidden(gist)).view(shape)
        cell = torch.tanh(self.initial_cell(gist)).view(shape) if self.initial_cell else hidden
        fed = hidden.new_zeros(sentences, self.readout.fed_width)
        return _RNNState(sentences, sentences, self.attention.start(memory), hidden, cell, fed)

    def step(self, tokens: Tensor, state: DecoderState, need_weights: bool = False) -> Step:
        assert isinstance(state, _RNNState)
        output, new_state, attended = self._advance(self.embedding(tokens.unsqueeze(1)).squeeze(1), state, need_weights)
        weights = None if attended.weights is None else attended.weights.squeeze(2)
        return Step(self.output(self.dropout(output)), new_state, weights)

    def _advance(self, embedded: Tensor, state: _RNNState, need_weights: bool) -> tuple[Tensor, _RNNState, Attended]:
        """One step: the embedded word (R, dim) -> what is read out (R, dim), state, what attention gave."""
        hidden, cell = state.hidden, state.cell
        attended, attention = None, state.attention

        def attend(query: Tensor) -> Tensor:
            nonlocal attended, attention
            attended, attention = self.attention.step(query.unsqueeze(1), attention, state.sentences, need_weights)
            return attended.values.squeeze(1)

        def run_cells(inputs: Tensor) -> Tensor:
            nonlocal hidden, cell
            hidden, cell = self.cells(inputs, hidden, cell)
            return hidden

        output, fed = self.readout.step(embedded, hidden, state.fed, attend, run_cells)
        assert attended is not None
        return output, dataclasses.replace(state, hidden=hidden, cell=cell, fed=fed, attention=attention), attended
