"""Callbacks that a user may choose. What every run needs (checkpoints, progress, samples) is not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from attnbuild.registry import register

if TYPE_CHECKING:
    from attnbuild.training.run import RunFolder

__all__ = ["CallbackPlace", "early_stopping"]


@dataclass(frozen=True)
class CallbackPlace:
    """What a callback is built from; the result is a Lightning ``Callback``.

    Attributes:
        monitor: the value that chooses checkpoints, as "validation/bleu"; higher is better.
        run: the run folder.
        config: the resolved config.
    """

    monitor: str
    run: RunFolder
    config: dict[str, Any]


@register("callback", "early_stopping")
def early_stopping(
    place: CallbackPlace, *, patience: Annotated[int, Ge(1)] = 10, min_delta: Annotated[float, Ge(0)] = 0.0
) -> Any:
    """Stop when the validation score no longer rises.

    Args:
        patience: validations without a new best score before training stops.
        min_delta: how much higher a score must be to count as a new best.
    """
    from lightning.pytorch.callbacks import EarlyStopping

    return EarlyStopping(place.monitor, mode="max", patience=patience, min_delta=min_delta)
