"""The Transformer encoder."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor

from attnbuild.attention.place import PlaceKind
from attnbuild.embedding import Embedding, Positions
from attnbuild.encoders.base import EncoderPlace
from attnbuild.encoders.layers import LayeredEncoder
from attnbuild.feedforward import Activation
from attnbuild.memory import Memory, padding_mask
from attnbuild.registry import register
from attnbuild.residual import Norm

__all__ = ["TransformerEncoder"]


@register("encoder", "transformer")
class TransformerEncoder(LayeredEncoder):
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
        class_token: a learned token before the others sums up the text (Devlin et al. 2019), in place of the mean.
    """

    places = {"attention": PlaceKind()}
    embedding: Embedding

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
        class_token: bool = False,
    ) -> None:
        super().__init__()
        self.pad_id = place.text.pad_id
        self.embedding = Embedding(
            place.text.vocabulary,
            dim,
            positions=positions,
            max_positions=max_positions,
            scale=True,
            dropout=dropout,
        )
        self.add_layers(
            place.attention,
            dim=dim,
            layers=layers,
            feedforward=feedforward,
            norm=norm,
            activation=activation,
            dropout=dropout,
            class_token=class_token,
        )

    def forward(self, source: Tensor) -> Memory:
        return self.encode(self.embedding(source), padding_mask(source, self.pad_id))
