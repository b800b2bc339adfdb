"""The Transformer encoder."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.choice import Choice
from attnbuild.attention.place import PlaceKind
from attnbuild.embedding import Embedding, Positions
from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.feedforward import Activation, FeedForward
from attnbuild.memory import Memory, masked_mean
from attnbuild.registry import register
from attnbuild.residual import Norm, Residual, require_width

__all__ = ["TransformerEncoder"]


class _Layer(nn.Module):
    """Self-attention and feed-forward, each with its residual."""

    def __init__(
        self,
        place: EncoderPlace,
        layer: int,
        *,
        dim: int,
        feedforward: int,
        norm: Norm,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = require_width(place.attention("attention", dim=dim, layer=layer), dim)
        self.feedforward = FeedForward(dim, feedforward, activation=activation, dropout=dropout)
        self.attention_residual = Residual(dim, norm=norm, dropout=dropout)
        self.feedforward_residual = Residual(dim, norm=norm, dropout=dropout)

    def forward(self, states: Tensor, key_padding_mask: Tensor, choices: list[Choice]) -> Tensor:
        """(B, S, dim) -> (B, S, dim); what a sampled attention chose is added to the choices."""

        def attend(query: Tensor) -> Tensor:
            attended = self.attention.attend(query, Memory(query, key_padding_mask, query[:, 0]))
            if attended.choice is not None:
                choices.append(attended.choice.where(~key_padding_mask))
            return attended.values

        return self.feedforward_residual(self.attention_residual(states, attend), self.feedforward)


@register("encoder", "transformer")
class TransformerEncoder(Encoder):
    """Self-attention and feed-forward layers (Vaswani et al. 2017, 3.1).

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

    places = {"attention": PlaceKind()}

    def __init__(
        self,
        place: EncoderPlace,
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
        self.dim, self.pad_id = dim, place.pad_id
        self.embedding = Embedding(
            place.vocabulary,
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

    def forward(self, source: Tensor) -> Memory:
        padding = source == self.pad_id
        states = self.embedding(source)
        choices: list[Choice] = []
        for layer in self.layers:
            states = layer(states, padding, choices)
        states = self.norm(states)
        return Memory(states, padding, masked_mean(states, padding), choices=choices)
