"""What all searches share: what they ask of a decoder, what they return, how long outputs may get."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from attnbuild.memory import Memory

__all__ = ["Generated", "Search", "SearchPlace", "StepDecoder", "log_probabilities"]


class DecodingState(Protocol):
    """What a decoder remembers. Rows are the hypotheses of all sentences, sentence by sentence."""

    def reorder(self, rows: Tensor) -> Self:
        """Row r of the new state is row ``rows[r]`` of this one; rows stay within their sentence."""

    def keep(self, sentences: Tensor) -> Self:
        """Only these sentences, each with all its rows."""


class DecodingStep(Protocol):
    """What one step returns: logits (R, V) of the next token, and the state after the token fed in."""

    @property
    def logits(self) -> Tensor: ...

    @property
    def state(self) -> DecodingState: ...


class StepDecoder(Protocol):
    """A decoder as a search sees it."""

    def start(self, memory: Memory) -> DecodingState:
        """The state before the first token, with one row a sentence."""

    def step(self, tokens: Tensor, state: Any) -> DecodingStep:
        """Feed one token a row, (R,)."""


@dataclass(frozen=True)
class SearchPlace:
    """What the vocabulary tells a search.

    Attributes:
        bos_id: the token that starts every output; it is fed in, never produced.
        eos_id: the token that ends an output.
        pad_id: the token that fills up shorter rows; never produced.
        unk_id: the token that stands for what the vocabulary lacks; never produced, since nobody can read it.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int | None = None

    @property
    def never(self) -> list[int]:
        """The tokens that no output may hold."""
        return [self.bos_id, self.pad_id] + ([] if self.unk_id is None else [self.unk_id])


@dataclass(frozen=True)
class Generated:
    """The outputs of a search, sentence by sentence, each sentence's best first.

    Attributes:
        tokens: sentence -> hypotheses -> token ids, without begin and end tokens. A sentence has at least
            one hypothesis, and fewer than were asked for only where the search found no more.
        scores: sentence -> hypotheses -> what they were ranked by, as the search defines it.
    """

    tokens: list[list[list[int]]]
    scores: list[list[float]]


class Search(ABC):
    """Finds outputs for a batch of encoded inputs.

    A sentence's result depends on that sentence alone, never on the batch it is in, and a sentence that
    is done leaves the batch. The limit on an output's length counts its end token: an output that
    reaches the limit without one is cut off there.
    """

    def __init__(self, place: SearchPlace, *, max_length_ratio: float, max_length_extra: int) -> None:
        self.place = place
        self.max_length_ratio = max_length_ratio
        self.max_length_extra = max_length_extra

    @property
    @abstractmethod
    def description(self) -> str:
        """A short name for logs and tables, such as ``beam5``."""

    @abstractmethod
    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        """Search for all sentences of a batch. The caller puts the model in evaluation mode.

        Args:
            decoder: gives the probability of the next token.
            memory: the encoded inputs of B sentences.
            index: (B,) the sentences' numbers in their data set, for searches that draw at random.
        """

    def limits(self, memory: Memory) -> Tensor:
        """(B,) the most steps each sentence may take, from its own unpadded length."""
        sentences, width = memory.states.shape[:2]
        if memory.key_padding_mask is None:
            lengths = torch.full((sentences,), width, device=memory.states.device)
        else:
            lengths = (~memory.key_padding_mask).sum(dim=1)
        limits = (lengths * self.max_length_ratio).long() + self.max_length_extra
        return limits.clamp(min=1)


def log_probabilities(logits: Tensor, place: SearchPlace) -> Tensor:
    """The model's log-probabilities (R, V) in fp32, with -inf for what no output may hold.

    The forbidden tokens' share is not given to the others, so scores remain the model's own.
    """
    log_probs = logits.float().log_softmax(dim=-1)
    log_probs[:, place.never] = -torch.inf
    return log_probs
