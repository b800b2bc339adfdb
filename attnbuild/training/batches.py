"""What was in a batch: for the messages and files about one that did harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from attnbuild.data.batching import Batch
from attnbuild.data.sides.base import Side
from attnbuild.data.sides.text import TextSide
from attnbuild.data.tokenizers.vocabulary import PAD
from attnbuild.training.supervised import SupervisedTask
from attnbuild.training.task import Task

__all__ = ["content", "readable", "size_setting", "sizes"]

#: Row numbers that a message shows; the file has all.
_SHOWN = 8

#: Values of a batch of an unknown kind that a file holds.
_MOST_VALUES = 10_000


def sizes(batch: Any) -> str:
    """Rows and lengths: ``64 rows, source 64 x 31, target 64 x 40``."""
    if isinstance(batch, Batch):
        shapes = {"source": batch.source, "target": batch.target}
        sides = (f"{name} {_shape(tensor)}" for name, tensor in shapes.items())
        return ", ".join([f"{len(batch)} row{'s' * (len(batch) != 1)}", *sides])
    if isinstance(batch, Tensor):
        return _shape(batch)
    return f"{len(batch)} rows" if isinstance(batch, Sequence) else type(batch).__name__


def readable(batch: Any, split: str) -> str:
    """Which rows of the split, and how large: for a message."""
    if not isinstance(batch, Batch):
        return f"a batch of {sizes(batch)} of {split}"
    numbers = batch.index.tolist()
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"row{'s' * (len(numbers) != 1)} {shown}{more} of {split} ({sizes(batch)})"


def content(task: Task, batch: Any) -> dict[str, Any]:
    """All that is needed to find the rows in the data and to see what the model was given; plain values.

    ``rows`` are numbers within the encoded split, from 0, as in the predictions; ``source`` and ``target`` have one
    entry a row: ``tokens`` without padding and their ``text``, or the values, where the side is no text.
    """
    if not isinstance(batch, Batch) or not isinstance(task, SupervisedTask):
        values = batch.tolist() if isinstance(batch, Tensor) and batch.numel() <= _MOST_VALUES else None
        return {"size": sizes(batch), "values": values}
    return {
        "size": sizes(batch),
        "rows": batch.index.tolist(),
        "source": _side(task.source_side, batch.source),
        "target": _side(task.target_side, batch.target),
    }


def size_setting(batch: Any, config: dict[str, Any], *, training: bool) -> str:
    """The settings that make such a batch smaller, with their values: ``batch.tokens (now 4096)``."""
    section = config.get("batch")
    if section is None:  # a task of its own need not have it
        return "the size of batches"
    prefix = "" if training else "eval_"
    by_rows = isinstance(batch, Batch) and (batch.source.ndim > 2 or len(batch) >= section[f"{prefix}rows"])
    names = [f"{prefix}rows" if by_rows else f"{prefix}tokens"]
    if isinstance(batch, Batch) and len(batch) == 1 and batch.source.ndim == 2:  # a single long text
        names = ["max_length"] if training else names
    return " or ".join(f"batch.{name} (now {section[name]})" for name in names)


def _side(side: Side, tensor: Tensor) -> list[Any]:
    if not isinstance(side, TextSide):
        # Pixels are in the data, under the row's number.
        return tensor.tolist() if tensor.ndim <= 2 else [list(tensor.shape[1:])] * len(tensor)
    rows = [[token for token in row if token != PAD] for row in tensor.tolist()]
    texts = side.vocabulary.decode(rows)
    return [{"tokens": row, "text": text} for row, text in zip(rows, texts, strict=True)]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1"


def number(value: float) -> float | str:
    """A number for JSON, which has none that is not finite."""
    return value if math.isfinite(value) else str(value)
