"""Beam search: the best outputs found by following several hypotheses at once.

Length penalty: Wu et al. 2016, "Google's Neural Machine Translation System", arXiv:1609.08144, eq. 14.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from attnbuild.errors import ConfigError
from attnbuild.generation.base import Generated, Search, SearchPlace, StepDecoder, log_probabilities
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["Beam", "length_penalty"]


def length_penalty(length: Tensor | int, alpha: float) -> Tensor | float:
    """What a log-probability is divided by to be ranked: ((5 + length) / 6) ** alpha.

    Args:
        length: scored tokens, the end token included.
        alpha: 0 ranks by log-probability, 1 nearly by its mean over tokens.
    """
    return ((5 + length) / 6) ** alpha


@dataclass
class Hypotheses:
    """N hypotheses for each of B sentences; a score of -inf marks a place that is not taken.

    Attributes:
        tokens: (B, N, T) without end tokens; what lies beyond a hypothesis' length has no meaning.
        lengths: (B, N), tokens in each hypothesis.
        scores: (B, N): length-penalised where they have ended, else plain log-probability.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor

    def keep(self, sentences: Tensor) -> Self:
        """Only these sentences."""
        return type(self)(self.tokens[sentences], self.lengths[sentences], self.scores[sentences])

    def pick(self, places: Tensor) -> Self:
        """In each sentence only the hypotheses at ``places`` (B, M), in that order."""
        tokens = self.tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, self.tokens.shape[-1]))
        return type(self)(tokens, self.lengths.gather(1, places), self.scores.gather(1, places))

    def best_with(self, others: Hypotheses) -> Hypotheses:
        """The N best of these and others, best first; of equal ones those of this object first."""
        both = Hypotheses(
            torch.cat([self.tokens, others.tokens], dim=1),
            torch.cat([self.lengths, others.lengths], dim=1),
            torch.cat([self.scores, others.scores], dim=1),
        )
        order = both.scores.argsort(dim=1, descending=True, stable=True)
        return both.pick(order[:, : self.scores.shape[1]])

    def read(self, count: int) -> tuple[list[list[list[int]]], list[list[float]]]:
        """Tokens and scores of the first ``count`` that exist, or of one where none does."""
        existing = (self.scores[:, :count] > -torch.inf).sum(dim=1).clamp(min=1).tolist()
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), self.scores.tolist(), existing, strict=True)
        tokens, scores = [], []
        for row, lengths, row_scores, number in rows:
            tokens.append([output[:n] for output, n in zip(row[:number], lengths[:number], strict=True)])
            scores.append(row_scores[:number])
        return tokens, scores


@register("search", "beam")
class Beam(Search):
    """The best outputs among the extensions of the ``beam`` best hypotheses of every length.

    A hypothesis ends where its end token is among the ``beam`` best continuations, so ``beam=1`` is
    greedy search. A sentence is done when ``beam`` hypotheses have ended, or at the length limit, where
    the live ones join them as they are. The score is the log-probability, end token included, divided by
    the length penalty.

    Args:
        beam: hypotheses followed at once.
        length_penalty: alpha of Wu et al. (2016); 0 favours short outputs, higher values longer ones.
        n_best: outputs returned for each input, at most ``beam``.
        max_length_ratio: longest output in tokens, as a multiple of the input's length.
        max_length_extra: tokens added to that.
    """

    def __init__(
        self,
        place: SearchPlace,
        *,
        beam: Annotated[int, Ge(1)] = 5,
        length_penalty: Annotated[float, Ge(0)] = 1.0,
        n_best: Annotated[int, Ge(1)] = 1,
        max_length_ratio: Annotated[float, Ge(0)] = 2.0,
        max_length_extra: Annotated[int, Ge(0)] = 20,
    ) -> None:
        super().__init__(place, max_length_ratio=max_length_ratio, max_length_extra=max_length_extra)
        if n_best > beam:
            raise ConfigError(
                f"{n_best} outputs need a beam at least as wide, not {beam}: set it to {beam} or less", "n_best"
            )
        self.beam = beam
        self.alpha = length_penalty
        self.n_best = n_best

    @property
    def description(self) -> str:
        return f"beam{self.beam}"

    @torch.no_grad()
    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        limits = self.limits(memory)
        sentences = torch.arange(len(limits), device=limits.device)
        tokens: list[list[list[int]]] = [[]] * len(limits)
        scores: list[list[float]] = [[]] * len(limits)

        state = decoder.start(memory)
        live, ended = self._begin(limits)
        last = torch.full_like(live.lengths, self.place.bos_id)
        step = 0
        while True:
            width = last.shape[1]
            output = decoder.step(last.flatten(), state)
            state, log_probs = output.state, log_probabilities(output.logits, self.place)
            live, parents, ended = self._extend(live, ended, log_probs, step)
            step += 1
            settled, at_limit = self._is_settled(live, ended, limits), limits == step
            cut_off = at_limit & ~settled
            if cut_off.any():
                ended = ended.best_with(self._cut_off(live, cut_off, step))

            done = settled | at_limit
            if done.any():
                outputs, output_scores = ended.keep(done).read(self.n_best)
                for row, sentence in enumerate(sentences[done].tolist()):
                    tokens[sentence], scores[sentence] = outputs[row], output_scores[row]
                if done.all():
                    return Generated(tokens, scores)
                staying = (~done).nonzero().squeeze(1)
                sentences, limits, parents = sentences[staying], limits[staying], parents[staying]
                live, ended, state = live.keep(staying), ended.keep(staying), state.keep(staying)
            first_rows = torch.arange(len(sentences), device=limits.device).unsqueeze(1) * width
            state = state.reorder((first_rows + parents).flatten())
            last = live.tokens[:, :, step - 1]

    def _begin(self, limits: Tensor) -> tuple[Hypotheses, Hypotheses]:
        """Live: the empty hypothesis, one a sentence; the first step makes a beam of it. Ended: none."""
        shape, device = (len(limits), self.beam), limits.device
        tokens = torch.full((*shape, int(limits.max())), self.place.pad_id, device=device)
        lengths = torch.zeros(shape, dtype=torch.long, device=device)
        scores = torch.zeros(len(limits), 1, device=device)
        ended = Hypotheses(tokens, lengths, scores.expand(shape) - torch.inf)
        return Hypotheses(tokens[:, :1], lengths[:, :1], scores), ended

    def _extend(
        self, live: Hypotheses, ended: Hypotheses, log_probs: Tensor, step: int
    ) -> tuple[Hypotheses, Tensor, Hypotheses]:
        """One token more: who is live now, the place (B, beam) each came from, and who has ended.

        Each hypothesis has one end token, so of the 2 x beam best continuations at least ``beam`` go on.
        """
        scores, parents, tokens = self._best(live.scores, log_probs)
        ends = tokens == self.place.eos_id
        if ends[:, : self.beam].any():
            ending = live.pick(parents[:, : self.beam])
            final = scores[:, : self.beam] / length_penalty(step + 1, self.alpha)
            ending.scores = final.masked_fill(~ends[:, : self.beam], -torch.inf)
            ended = ended.best_with(ending)

        scores, places = scores.masked_fill(ends, -torch.inf).topk(self.beam, dim=1)
        parents, tokens = parents.gather(1, places), tokens.gather(1, places)
        going = live.pick(parents)
        going.tokens[:, :, step] = tokens
        return Hypotheses(going.tokens, going.lengths + 1, scores), parents, ended

    def _best(self, live: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The 2 x beam best continuations: scores, places they continue and tokens, each (B, 2 x beam).

        The best of each hypothesis first, of which none can be missing: no sum over the whole vocabulary is made.
        """
        most = min(2 * self.beam, log_probs.shape[-1])
        gains, tokens = log_probs.topk(most, dim=-1)
        scores = (live.unsqueeze(-1) + gains.unflatten(0, live.shape)).flatten(1)
        scores, flat = scores.topk(min(2 * self.beam, scores.shape[1]), dim=1)
        parents, tokens = flat // most, tokens.view(len(live), -1).gather(1, flat)
        missing = self.beam - scores.shape[1]
        if missing > 0:  # a beam wider than the vocabulary
            scores = F.pad(scores, (0, missing), value=-torch.inf)
            parents, tokens = F.pad(parents, (0, missing)), F.pad(tokens, (0, missing))
        return scores, parents, tokens

    def _cut_off(self, live: Hypotheses, sentences: Tensor, step: int) -> Hypotheses:
        """The live hypotheses as outputs, in the sentences that ``sentences`` (B,) marks."""
        scores = live.scores / length_penalty(step, self.alpha)
        return Hypotheses(live.tokens, live.lengths, scores.masked_fill(~sentences.unsqueeze(1), -torch.inf))

    def _is_settled(self, live: Hypotheses, ended: Hypotheses, limits: Tensor) -> Tensor:
        """(B,) whether enough have ended, or nothing still to come could enter the n best.

        The bound: a log-probability only falls with further tokens and, for alpha >= 0, the penalty only
        grows, so a live hypothesis reaches at most its log-probability now over the penalty at the limit.
        """
        full = ended.scores[:, self.beam - 1] > -torch.inf
        bound = live.scores[:, 0] / length_penalty(limits, self.alpha)
        return full | (ended.scores[:, self.n_best - 1] >= bound)
