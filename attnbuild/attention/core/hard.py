"""Hard attention: one location instead of a mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from attnbuild.attention.backends.base import Call
from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.choice import Choice
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.parts import CorePlace
from attnbuild.attention.products import mixed, per_head
from attnbuild.attention.span import Span
from attnbuild.attention.state import CacheState, MemoryState, State, per_row
from attnbuild.registry import register
from attnbuild.step_gradients.gathering import read_by_steps

__all__ = ["Hard"]


@dataclass
class _HardState(State):
    """What a decoding remembers.

    Attributes:
        keys: keys and values, of the memory or of what was decoded so far.
        expected: (R,), whether the row takes the expected context at every step; None outside training.
    """

    keys: MemoryState | CacheState
    expected: Tensor | None = per_row(default=None)

    @property
    def length(self) -> int:
        """How many positions have been decoded, in self-attention."""
        assert isinstance(self.keys, CacheState)
        return self.keys.length


@register("core", "hard")
class Hard(Core):
    """The value at one location a query and head, drawn from softmax of the scores (Xu et al. 2015, section 4.1).

    Trained for the expectation of log p(y|s) over locations s. ``reinforce`` adds to the loss, for each sentence,
    ``- reinforce_weight (log p(y|s) - b) log p(s) - entropy_weight H[s]``: without ``soft_mix`` and entropy, and with
    a ``reinforce_weight`` of 1, the gradient is unbiased. The baseline b is a moving average over batches, of
    batches before the present one alone; in the very first batch it is the mean of the batch's other sentences.
    Several processes that train together take over the first one's baseline at every step, so theirs are equal,
    and it is saved with the weights. In evaluation the likeliest location is taken.

    Args:
        estimator: reinforce = score function with baseline; gumbel = a relaxed sample instead of a location;
            straight_through = the location forward, the gradient of the relaxed sample backward.
        gumbel_temperature: of the relaxed sample, for gumbel and straight_through; near 0 it is a location.
        soft_mix: probability, a sentence, that training takes the expected context at all its queries instead.
        reinforce_weight: how much the reward counts, lambda_r; 1 = no bias, less = less noise; reinforce only.
        entropy_weight: how much the distribution's entropy counts, lambda_e; reinforce only.
        baseline_decay: how much of the reward's moving average a batch keeps; reinforce only.
    """

    part_kinds = ("score", "pattern", "position")
    capabilities = Capabilities(
        differentiable=False,
        reasons={"differentiable": "a location is drawn, and its gradient is estimated"},
    )
    baseline: Tensor
    batches: Tensor

    def __init__(
        self,
        place: CorePlace,
        *,
        estimator: Literal["reinforce", "gumbel", "straight_through"] = "reinforce",
        gumbel_temperature: Annotated[float, Gt(0)] = 1.0,
        soft_mix: Annotated[float, Interval(ge=0, le=1)] = 0.5,
        reinforce_weight: Annotated[float, Ge(0)] = 0.1,
        entropy_weight: Annotated[float, Ge(0)] = 0.002,
        baseline_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.9,
    ) -> None:
        super().__init__(place)
        assert place.parts is not None
        self.score, self.pattern, self.position = place.parts.score, place.parts.pattern, place.parts.position
        self.estimator, self.gumbel_temperature, self.soft_mix = estimator, gumbel_temperature, soft_mix
        self.reinforce_weight, self.entropy_weight = reinforce_weight, entropy_weight
        self.baseline_decay = baseline_decay
        if estimator == "reinforce":
            self.register_buffer("baseline", torch.zeros((), dtype=_single_at_least(torch.get_default_dtype())))
            self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"estimator={self.estimator}, soft_mix={self.soft_mix}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts, as ``to`` and its kin ask; but in half precision the baseline would stop where it stands."""
        super()._apply(fn, recurse)
        if self.estimator == "reinforce":
            self.baseline = self.baseline.to(_single_at_least(self.baseline.dtype))
        return self

    # Attending

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        need_weights: bool = False,
    ) -> Attended:
        now, at = Span(0, query.shape[2]), Span(0, key.shape[2])
        keys = MemoryState(self.position.rotated(self.score.key(key), at), value, key_padding_mask)
        return self._attend(query, keys, now, at, self._draw_expected(query), need_weights)

    def remember(self, key: Tensor, value: Tensor, key_padding_mask: Tensor | None) -> _HardState:
        keys = MemoryState(read_by_steps(self.score.key(key)), value, key_padding_mask)
        return _HardState(keys, self._draw_expected(key))

    def recall(self, query: Tensor, state: State, need_weights: bool = False) -> tuple[Attended, State]:
        assert isinstance(state, _HardState)
        # No position enters between sequences, so where the beams stand on the query axis is all one.
        now, at = Span(0, query.shape[2]), Span(0, state.keys.key.shape[2])
        return self._attend(query, state.keys, now, at, state.expected, need_weights), state

    def begin(self, like: Tensor) -> _HardState:
        rows, heads = like.shape[0], self.place.kv_heads
        # The score decides how wide a transformed key is: ask it, on an empty key.
        key = self.score.key(like.new_zeros(rows, heads, 0, self.place.key_dim))
        cache = CacheState(key, like.new_zeros(rows, heads, 0, self.place.value_dim))
        return _HardState(cache, self._draw_expected(like))

    def extend(
        self, query: Tensor, key: Tensor, value: Tensor, state: State, need_weights: bool = False
    ) -> tuple[Attended, State]:
        assert isinstance(state, _HardState)
        keys = state.keys
        assert isinstance(keys, CacheState)
        now = Span(keys.length, keys.length + 1)
        keys = keys.append(self.position.rotated(self.score.key(key), now), value, self.pattern.reach)
        at = Span(keys.first, keys.length)
        attended = self._attend(query, keys, now, at, state.expected, need_weights)
        return attended, _HardState(keys, state.expected)

    # The distribution, and the choice from it

    def _attend(
        self,
        query: Tensor,
        keys: MemoryState | CacheState,
        now: Span,
        at: Span,
        expected: Tensor | None,
        need_weights: bool,
    ) -> Attended:
        """Raw queries at positions ``now`` against transformed keys ``at`` theirs."""
        assert self.place.parts is not None
        call = Call(
            query=self.position.rotated(self.score.query(query), now),
            key=per_head(keys.key, query.shape[1]),
            value=keys.value,
            queries_at=now,
            keys_at=at,
            parts=self.place.parts,
            place=self.place,
            key_padding_mask=keys.key_padding_mask if isinstance(keys, MemoryState) else None,
        )
        allowed = call.allowed()
        allowed = torch.ones((), dtype=torch.bool, device=query.device) if allowed is None else allowed
        scores, bias = self.score.rate(call.query, call.key), call.bias()
        scores = scores if bias is None else scores + bias
        scores = scores.to(_single_at_least(scores.dtype))
        # Next to minus infinity where a key is not allowed, uniform where none is at all.
        log_prob = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).log_softmax(dim=-1)
        return self._choose(log_prob, keys.value, allowed, expected, need_weights)

    def _choose(
        self, log_prob: Tensor, value: Tensor, allowed: Tensor, expected: Tensor | None, need_weights: bool
    ) -> Attended:
        """Values of the chosen locations; ``expected`` (R,): which rows take the mean over locations instead.

        ``log_prob`` (B, H, N, S), ``allowed`` broadcastable to it.
        """
        distribution, choice = log_prob.exp(), None
        if not self.training:
            weights = _one_hot(log_prob.argmax(dim=-1), log_prob)
        else:
            # Row r of sentence b: in recall its beams stand on the query axis.
            soft = torch.zeros_like(log_prob[:, 0, :, 0], dtype=torch.bool)
            soft = soft if expected is None else soft | expected.view(len(soft), -1)
            if self.estimator == "reinforce":
                location = self.draw(log_prob)
                weights = _one_hot(location, log_prob)
                choice = self._record(location, log_prob, allowed, soft)
            else:
                weights = self._relax(log_prob)
            if expected is not None:
                weights = torch.where(soft[:, None, :, None], distribution, weights)
        weights = weights.masked_fill(~allowed, 0.0).to(value.dtype)
        values = mixed(weights, per_head(value, weights.shape[1]))
        return Attended(values, weights if need_weights else None, choice)

    def draw(self, log_prob: Tensor) -> Tensor:
        """A location from each distribution, (B, H, N, S) -> (B, H, N), as the largest of Gumbel-perturbed scores."""
        return (log_prob.detach() + _gumbel(log_prob)).argmax(dim=-1)

    def _relax(self, log_prob: Tensor) -> Tensor:
        """A sample that is differentiable (Jang et al. 2017, equation 2), or looks it (section 2.2)."""
        relaxed = ((log_prob + _gumbel(log_prob)) / self.gumbel_temperature).softmax(dim=-1)
        if self.estimator == "gumbel":
            return relaxed
        # The difference is 0, so that the value is the location's alone and the gradient the relaxed one's.
        return _one_hot(relaxed.argmax(dim=-1), relaxed) + (relaxed - relaxed.detach())

    def _draw_expected(self, like: Tensor) -> Tensor | None:
        """Which rows of a tensor (R, ...) take the expected context, (R,); None = none does."""
        if not self.training or self.soft_mix == 0:
            return None
        return torch.rand(like.shape[0], device=like.device) < self.soft_mix

    # The gradient's estimate

    def _record(self, location: Tensor, log_prob: Tensor, allowed: Tensor, soft: Tensor) -> Choice:
        """What was chosen; the entropy counts for the rows that took the expected context too."""
        chosen = log_prob.gather(-1, location.unsqueeze(-1)).squeeze(-1)
        chosen = chosen.masked_fill(~allowed.any(dim=-1), 0.0)
        # 0 log 0 = 0: where a key is not allowed, its log probability would multiply the gradient.
        entropy = -(log_prob.exp() * log_prob.masked_fill(~allowed, 0.0)).sum(dim=-1)
        entropy = entropy.masked_fill(~allowed.any(dim=-1), 0.0)
        return Choice(chosen.sum(dim=1).masked_fill(soft, 0.0), entropy.sum(dim=1), self)

    def term(self, log_prob: Tensor, entropy: Tensor, reward: Tensor) -> Tensor:
        """The loss whose gradient, beside that at the drawn locations, estimates the expectation's: (B,) -> scalar.

        It also takes the rewards over into the baseline of the next batch.
        """
        gain = reward - self._baseline_before(reward)
        return -(self.reinforce_weight * gain * log_prob + self.entropy_weight * entropy).sum()

    @torch.no_grad()
    def _baseline_before(self, reward: Tensor) -> Tensor:
        """What to expect of each sentence, (B,) or scalar, without a look at its own reward, which would bias."""
        reward = reward.to(self.baseline.dtype)
        mean, begun = reward.mean(), self.batches > 0
        of_others = (reward.sum() - reward) / max(1, len(reward) - 1)
        baseline = torch.where(begun, self.baseline, of_others)
        moved = torch.where(begun, mean.lerp(self.baseline, self.baseline_decay), mean)
        # New values in the same buffers: distributed wrappers and checkpoints know them by identity.
        self.baseline.copy_(moved)
        self.batches.add_(1)
        return baseline


def _single_at_least(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _one_hot(location: Tensor, like: Tensor) -> Tensor:
    """(B, H, N) -> (B, H, N, S)."""
    return torch.zeros_like(like).scatter(-1, location.unsqueeze(-1), 1.0)


def _gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise of a tensor's shape: minus the log of an exponential variable, which may round to 0."""
    return -torch.empty_like(like).exponential_().clamp(min=torch.finfo(like.dtype).tiny).log()
