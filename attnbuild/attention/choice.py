"""What a sampled attention chose, and how its gradient is estimated once the reward is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Choice", "Policy"]


class Policy(Protocol):
    """Whoever chose: knows its baseline and how much its terms count."""

    def term(self, log_prob: Tensor, entropy: Tensor, reward: Tensor) -> Tensor:
        """The loss of a batch, (B,) each, whose gradient estimates that of minus the expected reward: scalar."""


@dataclass
class Choice:
    """Locations that were drawn.

    Attributes:
        log_prob: (B, N), log probability of what each query chose, summed over heads; 0 where nothing was drawn.
        entropy: (B, N), of the distributions it was drawn from, summed over heads.
        policy: who chose.
    """

    log_prob: Tensor
    entropy: Tensor
    policy: Policy

    def where(self, real: Tensor) -> Choice:
        """Only the queries at real positions, (B, N) bool."""
        return dataclasses.replace(self, log_prob=self.log_prob * real, entropy=self.entropy * real)

    def loss(self, reward: Tensor) -> Tensor:
        """The policy's loss, given what was gained with these choices, (B,): a scalar, summed over the batch."""
        return self.policy.term(self.log_prob.sum(dim=1), self.entropy.sum(dim=1), reward.detach())

    @staticmethod
    def in_sequence(choices: Sequence[Choice]) -> Choice:
        """One choice of N queries from those of N steps."""
        log_prob = torch.cat([choice.log_prob for choice in choices], dim=1)
        entropy = torch.cat([choice.entropy for choice in choices], dim=1)
        return Choice(log_prob, entropy, choices[0].policy)
