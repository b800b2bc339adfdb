"""The recurrent encoder."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnbuild.dropout import Dropout
from attnbuild.embedding import Embedding
from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.errors import ConfigError
from attnbuild.memory import Memory, surely_empty
from attnbuild.registry import register
from attnbuild.rnn import Cell, initialise_recurrent

__all__ = ["RNNEncoder"]


@register("encoder", "rnn")
class RNNEncoder(Encoder):
    """LSTM or GRU layers over the embedded source, in one or both directions (Bahdanau et al. 2015, 3.2).

    Args:
        dim: width of the states; both directions together.
        layers: number of layers.
        cell: lstm or gru.
        bidirectional: read in both directions and join the states.
        dropout: probability of dropping a channel, after the embedding, between layers and on the states.
    """

    #: The final state.
    own_summary = True
    embedding: Embedding

    def __init__(
        self,
        place: EncoderPlace,
        *,
        dim: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 1,
        cell: Cell = "lstm",
        bidirectional: bool = True,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        if dim % directions:
            raise ConfigError(
                f"two directions share the width {dim}, which is odd: choose {dim + 1}, "
                "or set encoder.bidirectional=false",
                "encoder.dim",
            )
        self.dim, self.pad_id = dim, place.text.pad_id
        self.embedding = Embedding(place.text.vocabulary, dim, dropout=dropout)
        self.recurrent = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](
            dim,
            dim // directions,
            num_layers=layers,
            bidirectional=bidirectional,
            dropout=dropout if layers > 1 else 0.0,
            batch_first=True,
        )
        initialise_recurrent(self.recurrent)
        self.dropout = Dropout(dropout)

    def forward(self, source: Tensor) -> Memory:
        padding = source == self.pad_id
        # An empty row cannot be packed; it is read as one padding token, and stays masked.
        lengths = (~padding).sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embedding(source), lengths, batch_first=True, enforce_sorted=False)
        states, final = self.recurrent(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        hidden = final[0] if isinstance(final, tuple) else final
        mask = None if surely_empty(padding) else padding
        return Memory(self.dropout(states), mask, self._join_last_layer(hidden))

    def _join_last_layer(self, hidden: Tensor) -> Tensor:
        """(layers x directions, B, width) -> (B, dim): the last layer's final states, both directions."""
        directions = 2 if self.recurrent.bidirectional else 1
        return hidden[-directions:].transpose(0, 1).flatten(1)
