"""What every decoder is told and does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from attnbuild.attention.choice import Choice
from attnbuild.attention.maker import AttentionMaker
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.state import State
from attnbuild.embedding import Embedding
from attnbuild.memory import Memory

__all__ = ["Decoded", "Decoder", "DecoderPlace", "DecoderState", "Generator", "Step"]


@dataclass(frozen=True)
class DecoderPlace:
    """What the builder tells a decoder.

    Attributes:
        outputs: number of target token ids, or of labels.
        memory_dim: width of the memory's states and summary.
        attention: builds the attention of one of the decoder's places.
        own_summary: whether the memory's summary is more than the mean of its states.
    """

    outputs: int
    memory_dim: int
    attention: AttentionMaker
    own_summary: bool = False


@dataclass
class DecoderState(State):
    """What a decoding remembers; rows are the beams of all sentences, sentence by sentence.

    Attributes:
        sentences: how many sentences are being decoded.
        rows: how many rows, the same number for each sentence.
    """

    sentences: int
    rows: int

    def reorder(self, rows: Tensor) -> Self:
        """Row r of the new state is row ``rows[r]`` of this one; rows stay within their sentence."""
        return dataclasses.replace(self.select(rows=rows), rows=len(rows))

    def keep(self, sentences: Tensor) -> Self:
        """Only these sentences (1-d index tensor), with all their rows."""
        beams = self.rows // self.sentences
        rows = (sentences.unsqueeze(1) * beams + torch.arange(beams, device=sentences.device)).flatten()
        kept = self.select(rows=rows, sentences=sentences)
        return dataclasses.replace(kept, sentences=len(sentences), rows=len(rows))


@dataclass
class Decoded:
    """What a decoder makes of a memory: a whole target under teacher forcing, or the labels.

    Attributes:
        logits: (B, T, V) of the next tokens; (B, labels).
        weights: (B, heads, T, S) of the last layer's cross-attention where asked for and where there are any;
            T is 1 for labels.
        choices: what sampled attentions chose for each query.
    """

    logits: Tensor
    weights: Tensor | None = None
    choices: list[Choice] = field(default_factory=list)


@dataclass
class Step:
    """One decoding step.

    Attributes:
        logits: (R, V).
        state: what to give to the next step.
        weights: (R, heads, S) of the last layer's cross-attention where asked for and where there are any.
    """

    logits: Tensor
    state: DecoderState
    weights: Tensor | None = None


class Decoder(nn.Module):
    """Base of decoders.

    Attributes:
        places: the decoder's places for attention, by name.
        writes: what it gives: "text" (a ``Generator``), "labels", or what a task of one's own asks for.
    """

    places: ClassVar[Mapping[str, PlaceKind]] = {}
    writes: ClassVar[str]

    @classmethod
    def places_for(cls, options: Mapping[str, Any]) -> Mapping[str, PlaceKind]:
        """The places that it has with these options, which may be wrong: they are checked elsewhere."""
        return cls.places


class Generator(Decoder):
    """Base of decoders that write token by token.

    Attributes:
        embedding: of the target tokens.
        output: the layer that turns states into logits; its weight may be tied to an embedding.
        never_tied: why it may not be; None where it may.
    """

    writes = "text"
    embedding: Embedding
    output: nn.Linear
    never_tied: str | None = None

    def forward(self, target: Tensor, memory: Memory, need_weights: bool = False) -> Decoded:
        """Teacher forcing: token ids (B, T), padded at the right."""
        raise NotImplementedError

    def start(self, memory: Memory) -> DecoderState:
        """The state before the first token, one row a sentence."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: DecoderState, need_weights: bool = False) -> Step:
        """One token of every row, (R,) -> logits of the next."""
        raise NotImplementedError
