"""Averages of weights: over checkpoints, and over steps.

The mean of the last or best checkpoints of one run (Vaswani et al., 2017, section 6.1) and the
exponential moving average of all steps often score above any single one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import nn

from attnbuild.errors import ConfigError
from attnbuild.training.checkpoint import load_checkpoint
from attnbuild.training.sharding import local, saved, sliced

__all__ = ["Average", "MovingAverage", "average_checkpoints", "constants", "parse_average"]

#: How much of the moving average one update keeps, once training is past its start.
DECAY = 0.999


@dataclass(frozen=True)
class Average:
    """Which weights are averaged.

    Attributes:
        over: the best checkpoints, the last ones, or every step.
        count: how many checkpoints; 1 for the moving average, which is one set of weights by itself.
    """

    over: Literal["best", "last", "ema"]
    count: int


def parse_average(text: str) -> Average | None:
    """Read the option ``average``: none, ema, bestN or lastN.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "none":
        return None
    if text == "ema":
        return Average("ema", 1)
    match = re.fullmatch(r"(best|last)([1-9]\d?)", str(text))
    if match is None:
        raise ConfigError(f"{text!r}: expected none, ema, bestN or lastN, as best5", "average")
    return Average("best" if match[1] == "best" else "last", int(match[2]))


def average_checkpoints(paths: Sequence[Path]) -> dict[str, Any]:
    """A checkpoint with the mean weights of several, and all else from the first.

    The mean is formed in float64. Tensors of whole numbers are taken from the first, and so is what a mean
    would make senseless: see ``constants``.
    """
    first = load_checkpoint(paths[0])
    kept = first["attnbuild"].get("constants", ())
    sums = {
        name: value.double()
        for name, value in first["state_dict"].items()
        if value.is_floating_point() and name not in kept
    }
    for path in paths[1:]:
        weights = load_checkpoint(path)["state_dict"]
        for name in sums:
            sums[name] += weights[name].double()
    for name, value in sums.items():
        first["state_dict"][name] = (value / len(paths)).to(first["state_dict"][name].dtype)
    return first


def constants(module: nn.Module) -> list[str]:
    """Names of buffers of which there is no mean: all but running statistics, which average as weights do.

    A mean of two sets of random features, say, is no set of random features.
    """
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, part in module.named_modules()
        if not isinstance(part, nn.modules.batchnorm._BatchNorm)
        for name, _ in part.named_buffers(recurse=False)
    ]


class MovingAverage(Callback):
    """Exponential moving average of the parameters, and of running statistics, after every update.

    The first updates count for more, so that the random start is soon forgotten: update n keeps
    ``min(decay, (1 + n) / (10 + n))`` of the average.
    """

    def __init__(self, decay: float = DECAY) -> None:
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if not self.weights:
            self.weights = {name: value.detach().clone() for name, value in _averaged(module)}
        spread = dict(_averaged(module))
        self.weights = {name: sliced(value.to(module.device), spread[name]) for name, value in self.weights.items()}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.updates:
            return  # in the middle of an accumulation
        self.updates = trainer.global_step
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in _averaged(module):
            local(self.weights[name]).lerp_(local(value), 1 - kept)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the average in the place of the module's weights for a while."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    def _swap(self, module: nn.Module) -> None:
        """In place, for what shards the parameters holds on to their memory."""
        for name, value in _averaged(module):
            own, average = local(value), local(self.weights[name])
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": {name: saved(value) for name, value in self.weights.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]
        self.weights = state_dict["weights"]


def _averaged(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """What is trained, and the running statistics that belong to it."""
    kept = set(constants(module))
    running = [
        (name, value) for name, value in module.named_buffers() if name not in kept and value.is_floating_point()
    ]
    return [(name, value) for name, value in module.named_parameters() if value.requires_grad] + running
