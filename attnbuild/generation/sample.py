"""Sampling: outputs drawn at random from the model's distribution, or from its likelier part."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from attnbuild.generation.base import Generated, Search, SearchPlace, StepDecoder
from attnbuild.generation.rollout import roll_out
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["Sample", "draw"]


@register("search", "sample")
class Sample(Search):
    """Outputs drawn at random, best first; the score is the model's log-probability of the output.

    Several outputs of one input are drawn independently, so equal ones may be among them. What is drawn
    for a sentence depends on ``seed`` and on its number in the data set; without numbers every sentence
    draws from the same random numbers.

    Args:
        temperature: logits are divided by it; below 1 sharpens, above 1 flattens the distribution.
        top_k: draw among this many likeliest tokens only (Fan et al. 2018); null = among all.
        top_p: draw among the likeliest tokens that hold this share of probability (nucleus; Holtzman
            et al. 2020); 1 = among all. Applied after temperature and top_k.
        n_best: outputs drawn for each input.
        seed: where the random numbers start.
        max_length_ratio: longest output in tokens, as a multiple of the input's length.
        max_length_extra: tokens added to that.
    """

    def __init__(
        self,
        place: SearchPlace,
        *,
        temperature: Annotated[float, Gt(0)] = 1.0,
        top_k: Annotated[int, Ge(1)] | None = None,
        top_p: Annotated[float, Gt(0), Le(1)] = 1.0,
        n_best: Annotated[int, Ge(1)] = 1,
        seed: Annotated[int, Ge(0)] = 1,
        max_length_ratio: Annotated[float, Ge(0)] = 2.0,
        max_length_extra: Annotated[int, Ge(0)] = 20,
    ) -> None:
        super().__init__(place, max_length_ratio=max_length_ratio, max_length_extra=max_length_extra)
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.n_best = n_best
        self.seed = seed

    @property
    def description(self) -> str:
        return "sample"

    @torch.no_grad()
    def __call__(self, decoder: StepDecoder, memory: Memory, index: Tensor | None = None) -> Generated:
        limits = self.limits(memory)
        noise = self._noise(limits, index)

        def choose(log_probs: Tensor, sentences: Tensor, step: int) -> Tensor:
            return draw(log_probs, noise[sentences, step], self.temperature, self.top_k, self.top_p)

        outputs = roll_out(decoder, memory, self.place, limits, choose, width=self.n_best)
        scores, order = outputs.log_probs.sort(dim=1, descending=True, stable=True)
        tokens = outputs.tokens.gather(1, order.unsqueeze(-1).expand_as(outputs.tokens)).tolist()
        lengths = outputs.lengths.gather(1, order).tolist()
        return Generated(
            [[row[:n] for row, n in zip(*pair, strict=True)] for pair in zip(tokens, lengths, strict=True)],
            scores.tolist(),
        )

    def _noise(self, limits: Tensor, index: Tensor | None) -> Tensor:
        """(B, T, n_best) uniform numbers in [0, 1), from one stream a sentence."""
        numbers = [0] * len(limits) if index is None else index.tolist()
        noise = np.zeros((len(limits), int(limits.max()), self.n_best))
        for row, (number, limit) in enumerate(zip(numbers, limits.tolist(), strict=True)):
            noise[row, :limit] = np.random.default_rng((self.seed, number)).random((limit, self.n_best))
        return torch.from_numpy(noise).to(limits.device)


def draw(log_probs: Tensor, noise: Tensor, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """One token a row, by inverting the cumulative distribution at ``noise``.

    Args:
        log_probs: (..., V), with -inf for what must not be drawn.
        noise: (...), uniform in [0, 1).
        temperature: divides the log-probabilities.
        top_k: how many of the likeliest tokens to draw among; None = all.
        top_p: the smallest set of likeliest tokens whose share reaches this is drawn among.
    """
    # float64, for a sum over a large vocabulary must not round small shares away.
    scores = log_probs.double() / temperature
    if top_k is not None:
        scores = _keep_top_k(scores, top_k)
    if top_p < 1:
        scores = _keep_top_p(scores, top_p)
    cumulative = scores.softmax(dim=-1).cumsum(dim=-1)
    threshold = noise.unsqueeze(-1) * cumulative[..., -1:]
    position = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return position.clamp(max=log_probs.shape[-1] - 1)


def _keep_top_k(scores: Tensor, top_k: int) -> Tensor:
    likeliest, tokens = scores.topk(min(top_k, scores.shape[-1]), dim=-1)
    return torch.full_like(scores, -torch.inf).scatter(-1, tokens, likeliest)


def _keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    shares, tokens = scores.softmax(dim=-1).sort(dim=-1, descending=True)
    share_before = shares.cumsum(dim=-1) - shares
    beyond = share_before >= top_p
    beyond = beyond.scatter(-1, tokens, beyond)
    return scores.masked_fill(beyond, -torch.inf)
