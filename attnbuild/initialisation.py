"""Initialisations of a whole model, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

__all__ = ["Initialisation", "initialise"]

Initialisation = Literal["xavier", "normal"]


def _xavier(model: nn.Module) -> None:
    """Xavier uniform matrices (Glorot and Bengio 2010), zero biases. Embeddings and recurrent cells stay as built."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _normal(model: nn.Module) -> None:
    """N(0, 0.02) matrices and embeddings, zero biases (Radford et al. 2019, GPT-2). Recurrent cells stay as built."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


_INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {"xavier": _xavier, "normal": _normal}


def initialise(model: nn.Module, how: Initialisation) -> None:
    """Set all weights, then let modules whose weights start out related say so: ``after_initialisation()``."""
    _INITIALISATIONS[how](model)
    for module in model.modules():
        settle = getattr(module, "after_initialisation", None)
        if settle is not None:
            settle()
