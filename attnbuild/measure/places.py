"""What each attention of a model costs, counted on real tensors: the model runs once, and each place again alone.

A place is measured by giving its blocks what they were given in the model. Its own run is the only way to tell
its memory from its neighbours', and its backward from theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.measure.flops import count_flops
from attnbuild.measure.memory import measure_memory
from attnbuild.memory import Memory

__all__ = ["Cost", "cost_by_place", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """Of one forward and backward pass.

    Attributes:
        forward: floating point operations of the forward pass.
        backward: of the backward pass.
        kept: bytes that the forward pass leaves for the backward pass, its output included.
        peak: bytes at most, beyond parameters and inputs, gradients included.
    """

    forward: int = 0
    backward: int = 0
    kept: int = 0
    peak: int = 0

    def __add__(self, after: Cost) -> Cost:
        """Of two parts of a model that run one after the other; the peak is that of the greater."""
        return Cost(
            self.forward + after.forward,
            self.backward + after.backward,
            self.kept + after.kept,
            max(self.peak, after.peak),
        )


@dataclass
class _Given:
    """What a block was given while its model ran.

    Attributes:
        attended: query and memory of each whole sequence.
        started: the memory of a decoding.
        steps: query and number of sentences of each of its steps.
    """

    attended: list[tuple[Tensor, Memory]] = field(default_factory=list)
    started: Memory | None = None
    steps: list[tuple[Tensor, int]] = field(default_factory=list)


def cost_by_place(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Cost, dict[str, Cost]]:
    """The cost of a whole model, and of its attentions by place: all layers of a place together.

    Args:
        model: holds the blocks.
        run: gives the model a batch; returns the loss.
    """
    blocks = [module for module in model.modules() if isinstance(module, AttentionBlock)]
    with torch.no_grad(), _watched(blocks) as given:
        run()
    parameters = list(model.parameters())
    places: dict[str, Cost] = {}
    for block, seen in zip(blocks, given, strict=True):
        cost = cost_of(partial(_again, block, seen), list(block.parameters()))
        places[block.place.name] = places.get(block.place.name, Cost()) + cost
    return cost_of(run, parameters), places


def cost_of(forward: Callable[[], Tensor], leaves: list[Any]) -> Cost:
    """Count a forward pass and its backward; the gradients of the leaves are dropped after."""

    def both() -> None:
        _backward(forward())

    ahead, output = count_flops(forward)
    back, _ = count_flops(partial(_backward, output))
    output = None  # its graph must not be there when memory is measured
    _drop_gradients(leaves)
    kept = measure_memory(forward).left
    peak = measure_memory(both).peak
    _drop_gradients(leaves)
    return Cost(ahead, back, kept, peak)


def _backward(output: Tensor) -> None:
    if output.requires_grad:
        output.backward(torch.ones_like(output))


def _drop_gradients(leaves: list[Any]) -> None:
    for leaf in leaves:
        leaf.grad = None


@contextmanager
def _watched(blocks: list[AttentionBlock]) -> Iterator[list[_Given]]:
    """While it lasts, each block notes what it is given."""
    given = [_Given() for _ in blocks]
    for block, seen in zip(blocks, given, strict=True):
        for name, note in (("attend", _note_attended), ("start", _note_start), ("step", _note_step)):
            setattr(block, name, _noting(getattr(block, name), note, seen))
    try:
        yield given
    finally:
        for block in blocks:
            for name in ("attend", "start", "step"):
                delattr(block, name)  # what was set on the object hid the method of its class


def _noting(method: Callable[..., Any], note: Callable[..., None], seen: _Given) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        note(seen, *args, **kwargs)
        return method(*args, **kwargs)

    return noted


def _note_attended(seen: _Given, query: Tensor, memory: Memory, *_: Any, **__: Any) -> None:
    seen.attended.append((query, memory))


def _note_start(seen: _Given, memory: Memory) -> None:
    seen.started = memory


def _note_step(seen: _Given, query: Tensor, state: Any, sentences: int, *_: Any, **__: Any) -> None:
    seen.steps.append((query, sentences))


def _again(block: AttentionBlock, seen: _Given) -> Tensor:
    """Run a block on what it was given, with gradients for its inputs; returns all that it gave, flat."""
    outputs = []
    for query, memory in seen.attended:
        own = query is memory.states
        query = query.detach().requires_grad_()
        states = query if own else memory.states.detach().requires_grad_()
        outputs.append(block.attend(query, replace(memory, states=states)).values)
    if seen.started is not None and seen.steps:
        state = block.start(replace(seen.started, states=seen.started.states.detach().requires_grad_()))
        for query, sentences in seen.steps:
            attended, state = block.step(query.detach().requires_grad_(), state, sentences)
            outputs.append(attended.values)
    if not outputs:
        return next(block.parameters(), torch.zeros(())).new_zeros(())
    return outputs[0] if len(outputs) == 1 else torch.cat([output.flatten() for output in outputs])
