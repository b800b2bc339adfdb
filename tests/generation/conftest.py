"""A decoder small enough to enumerate: a table of logits for each sentence, walked by the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attnbuild.generation.base import SearchPlace
from attnbuild.memory import Memory

PAD, BOS, EOS = 0, 1, 2
PLACE = SearchPlace(bos_id=BOS, eos_id=EOS, pad_id=PAD)


@dataclass
class MarkovState:
    """``tables`` (B, phases, V) are kept once a sentence, ``phases`` (R,) once a row."""

    tables: Tensor
    phases: Tensor
    position: int

    @property
    def width(self) -> int:
        return len(self.phases) // len(self.tables)

    def reorder(self, rows: Tensor) -> MarkovState:
        return MarkovState(self.tables, self.phases[rows], self.position)

    def keep(self, sentences: Tensor) -> MarkovState:
        rows = self.phases.view(-1, self.width)[sentences].flatten()
        return MarkovState(self.tables[sentences], rows, self.position)


@dataclass
class MarkovStep:
    logits: Tensor
    state: MarkovState


class MarkovDecoder:
    """The phase after a token depends on all tokens before it, so a wrong reorder or keep shows.

    Logits grow with the position, or the same steps in another order would make outputs that tie.
    """

    def __init__(self) -> None:
        self.rows_seen: list[int] = []

    def start(self, memory: Memory) -> MarkovState:
        return MarkovState(memory.summary, torch.zeros(len(memory.summary), dtype=torch.long), 0)

    def step(self, tokens: Tensor, state: MarkovState, need_weights: bool = False) -> MarkovStep:
        self.rows_seen.append(len(tokens))
        phases = (state.phases * 5 + tokens) % state.tables.shape[1]
        sentences = torch.arange(len(tokens)) // state.width
        logits = state.tables[sentences, phases] * growth(state.position)
        return MarkovStep(logits, MarkovState(state.tables, phases, state.position + 1))


def growth(position: int) -> float:
    return 1 + position / 10


class Markov:
    """Makes memories for the decoder, and scores sequences one by one."""

    place = PLACE
    decoder = MarkovDecoder

    @staticmethod
    def tables(seed: int, sentences: int, vocabulary: int = 6, phases: int = 11, eos: float = 0.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        tables = 2 * torch.randn(sentences, phases, vocabulary, generator=generator)
        tables[:, :, EOS] += eos
        return tables

    @staticmethod
    def memory(tables: Tensor, lengths: list[int] | None = None) -> Memory:
        lengths = lengths or [3] * len(tables)
        mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
        return Memory(torch.zeros(*mask.shape, 1), mask, tables)

    @staticmethod
    def next_log_probs(table: Tensor, prefix: list[int]) -> Tensor:
        """(V,) after the begin token and ``prefix``."""
        phase = 0
        for token in [BOS, *prefix]:
            phase = (phase * 5 + token) % len(table)
        log_probs = (table[phase] * growth(len(prefix))).log_softmax(dim=-1)
        log_probs[[PAD, BOS]] = -torch.inf
        return log_probs


@pytest.fixture(scope="session")
def markov() -> type[Markov]:
    return Markov
