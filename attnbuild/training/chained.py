"""Several optimisers, each of its own parameters, that act as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Chained"]


class Chained(torch.optim.Optimizer):
    """One optimiser for those who schedule, clip and save; each update is made by its parts, in their order.

    Lightning takes several optimisers in manual optimisation alone.

    Args:
        parts: each has its own parameters.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = [(part, len(part.param_groups)) for part in parts]
        super().__init__([group for part in parts for group in part.param_groups], defaults={})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters once, after ``closure``, whose value is returned."""
        results: list[Any] = []
        groups = iter(self.param_groups)  # not those of the parts: a loaded state comes with groups of its own
        for part, count in self._parts:
            part.param_groups = [next(groups) for _ in range(count)]
            part.state = self.state
            results.append(part.step(closure))
            closure = None  # the first part has called it: the gradients of all are there
        return results[0]
