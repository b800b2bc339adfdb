"""How a gradient is gathered over steps: a stand-in for what they read, and what they leave there.

A recurrent decoder reads the same keys, with one query, and the same weights at each step. Each step's gradient of them
is as large as they are, and autograd would make it and add it up step by step. Where it is an outer product, what it
is made of is small: that is kept until the last step is done, and then one matrix product makes the sum over all
steps. Where it is not, it is added up in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Left", "is_read_by_steps", "left_for", "read_by_steps"]


def read_by_steps(states: Tensor) -> Tensor:
    """Keys, values or weights as they are, ready for the functions of this package."""
    learns = torch.is_grad_enabled() and states.requires_grad
    if not learns or states.device.type != "cpu" or torch.compiler.is_compiling():
        return states
    return _Read.apply(states)


def is_read_by_steps(states: Tensor) -> bool:
    """Whether what reads them is to leave there what their gradient is made of."""
    return hasattr(states.grad_fn, "left")


@dataclass
class Left:
    """What steps leave for the gradient of the states or weights that they read.

    Attributes:
        pairs: of a step, two factors whose outer product is its gradient: (B, H, 1, S) and (B, H, 1, D) of states,
            (R, M) and (R, K) of a weight, (H, R, D) and (H, R, E) of one for each head.
        rated: of all steps that rate additively, their sum (B, H, S, D) and what it has yet to be multiplied by,
            (H, 1, D); None where there was none yet.
        scratch: of the size of the states, for what a step needs while it is at it: memory that is written again and
            again is at hand, and other memory is not.
        backward_pass: the one that these are of.
    """

    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    rated: tuple[Tensor, Tensor] | None = None
    scratch: Tensor | None = None
    backward_pass: int = -1

    def begin(self) -> None:
        """Forget what an earlier backward pass left, one that was asked for other gradients alone."""
        now: int = torch._C._current_graph_task_id()
        if now != self.backward_pass:
            self.pairs.clear()
            self.rated = self.scratch = None
            self.backward_pass = now

    def add_outer(self, left: Tensor, right: Tensor) -> None:
        """A step's two factors."""
        self.begin()
        self.pairs.append((left, right))

    def add(self, slopes: Tensor, gradient: Tensor, channels: Tensor) -> None:
        """A step's (B, H, S, D) times (B, H, S, 1), times (H, 1, D), the same in all steps."""
        self.begin()
        if self.rated is None:
            self.rated = slopes * gradient, channels
        else:
            self.rated[0].addcmul_(slopes, gradient)

    def scratch_like(self, states: Tensor) -> Tensor:
        """Memory for a step, of the size of the states."""
        self.begin()
        if self.scratch is None:
            self.scratch = torch.empty_like(states)
        return self.scratch

    def taken(self) -> Tensor | None:
        """The gradient of this backward pass; None where no step had one."""
        self.begin()
        gathered = None
        if self.rated is not None:
            sums, channels = self.rated
            gathered, self.rated, self.scratch = sums.mul_(channels), None, None
        if self.pairs:
            by_key, by_channel = (torch.cat(factors, dim=-2) for factors in zip(*self.pairs, strict=True))
            self.pairs.clear()
            products = by_key.transpose(-2, -1) @ by_channel
            gathered = products if gathered is None else gathered.add_(products)
        return gathered


def left_for(states: Tensor, asking: Tensor) -> Left | None:
    """Where the gradient of these states is gathered, if steps of their precision read them so and learn."""
    reads = is_read_by_steps(states) and asking.dtype == states.dtype and torch.is_grad_enabled()
    return states.grad_fn.left if reads else None  # type: ignore[union-attr]


class _Read(torch.autograd.Function):
    """The same states; backward, what the steps have left is made into their gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        ctx.left = Left()
        ctx.set_materialize_grads(False)
        # Heads apart lie between each other in memory, and each product would copy them.
        return states.view_as(states) if states.is_contiguous() else states.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> Tensor | None:
        gathered: Tensor | None = ctx.left.taken()
        if gathered is None or gradient is None:
            return gradient if gathered is None else gathered
        return gathered + gradient
