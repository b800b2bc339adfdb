"""The decoder that gives labels: it pools the memory into one vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.base import Attended
from attnbuild.attention.place import PlaceKind
from attnbuild.decoders.base import Decoded, Decoder, DecoderPlace
from attnbuild.dropout import Dropout
from attnbuild.errors import ConfigError
from attnbuild.linear import Linear
from attnbuild.memory import Memory, masked_mean
from attnbuild.registry import register

__all__ = ["Classifier"]


def _mean(memory: Memory) -> Tensor:
    return masked_mean(memory.states, memory.key_padding_mask)


def _max(memory: Memory) -> Tensor:
    """The largest of each channel over the real positions: (B, D); 0 where a row is all padding."""
    padding = memory.key_padding_mask
    if padding is None:
        return memory.states.amax(dim=1)
    largest = memory.states.masked_fill(padding.unsqueeze(-1), -torch.inf).amax(dim=1)
    return largest.masked_fill(padding.all(dim=1, keepdim=True), 0.0)


def _summary(memory: Memory) -> Tensor:
    return memory.summary


#: The poolings without attention: a memory -> (B, D).
_POOLINGS: dict[str, Callable[[Memory], Tensor]] = {"mean": _mean, "max": _max, "cls": _summary}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "gelu": nn.GELU}


@register("decoder", "classifier")
class Classifier(Decoder):
    """Pools the memory into one vector, and rates every label from it.

    attention: one learned query asks the memory, like the context vector u_w of Yang et al. 2016 ("Hierarchical
    attention networks for document classification", section 2.2). To an attention that counts positions it stands
    at the first: local_m, say, sees the first window + 1 keys and no more.
    mean, max: of every channel over the real positions.
    cls: the summary that the encoder has of its own: the state of a class token (Devlin et al. 2019, section 3),
    or the final state of a recurrent encoder.

    Args:
        pooling: how the memory becomes one vector: attention, mean, max or cls.
        dim: width of the learned query; pooling=attention only.
        hidden: width of a layer between the vector and the labels; null = none.
        activation: of that layer.
        dropout: probability of dropping a channel before the output layer.
    """

    writes = "labels"
    places = {"cross_attention": PlaceKind(cross=True)}

    def __init__(
        self,
        place: DecoderPlace,
        *,
        pooling: Literal["attention", "mean", "max", "cls"] = "attention",
        dim: Annotated[int, Ge(1)] = 256,
        hidden: Annotated[int, Ge(1)] | None = None,
        activation: Literal["tanh", "gelu"] = "tanh",
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        if pooling == "cls" and not place.own_summary:
            raise ConfigError(
                "'cls' reads a summary that the encoder has of its own, and this encoder has no class token: "
                "choose 'mean', or set encoder.class_token=true where there is that option",
                "decoder.pooling",
            )
        self.pooling, self.dim = pooling, dim
        self.attention: AttentionBlock | None = None
        self.query: nn.Parameter | None = None
        width = place.memory_dim
        if pooling == "attention":
            self.attention = place.attention("cross_attention", dim=dim, memory_dim=place.memory_dim)
            width = self.attention.out_dim
            if self.attention.core.reads_query:  # one that nothing reads would never learn
                self.query = nn.Parameter(torch.empty(1, dim))
                nn.init.normal_(self.query, std=dim**-0.5)
        self.hidden: nn.Module = nn.Identity()
        if hidden is not None:
            self.hidden = nn.Sequential(Linear(width, hidden), _ACTIVATIONS[activation]())
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden or width, place.outputs)

    @classmethod
    def places_for(cls, options: Mapping[str, Any]) -> Mapping[str, PlaceKind]:
        return cls.places if options.get("pooling", "attention") == "attention" else {}

    def forward(self, memory: Memory, need_weights: bool = False) -> Decoded:
        """A memory -> logits (B, labels), and the weights (B, heads, 1, S) of the learned query where asked for."""
        pooled = self._pool(memory, need_weights)
        logits = self.output(self.dropout(self.hidden(pooled.values.squeeze(1))))
        return Decoded(logits, pooled.weights, [] if pooled.choice is None else [pooled.choice])

    def _pool(self, memory: Memory, need_weights: bool) -> Attended:
        """Values (B, 1, width)."""
        if self.attention is None:
            return Attended(_POOLINGS[self.pooling](memory).unsqueeze(1))
        query = memory.states.new_zeros(1, self.dim) if self.query is None else self.query
        return self.attention.attend(query.expand(len(memory.states), 1, -1), memory, need_weights)
