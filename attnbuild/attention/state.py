"""What incremental decoding remembers.

Search works on rows: the beams of all sentences, sentence by sentence (``rows = sentences x beams``).
A state is a dataclass whose tensors are tagged as stored once per sentence (the memory's keys and
values, shared by the beams) or once per row (own keys, recurrent state). The tags are all that
reordering beams and dropping finished sentences need, so one ``select`` serves every core.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor

__all__ = ["CacheState", "MemoryState", "State", "decoded", "per_row", "per_sentence"]


def per_sentence(**kwargs: Any) -> Any:
    """A field whose first axis counts sentences."""
    return field(metadata={"axis": "sentence"}, **kwargs)


def per_row(**kwargs: Any) -> Any:
    """A field whose first axis counts rows (sentences x beams)."""
    return field(metadata={"axis": "row"}, **kwargs)


@dataclass
class State:
    """Base of decoding states: selects along the tagged axes, through nested states and lists."""

    def select(self, *, rows: Tensor | None = None, sentences: Tensor | None = None) -> Self:
        """A state that holds the given rows and sentences (1-d index tensors; None = all, as they are).

        Raises:
            TypeError: a tensor is in a field without a tag, or in a tuple or dict, and would silently stay with the
                wrong rows.
        """
        changed: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                axis = item.metadata.get("axis")
                if axis is None:
                    raise TypeError(f"{type(self).__name__}.{item.name} is a tensor: tag it per_row or per_sentence")
                index = rows if axis == "row" else sentences
                if index is not None:
                    changed[item.name] = value.index_select(0, index)
            elif isinstance(value, State):
                changed[item.name] = value.select(rows=rows, sentences=sentences)
            elif isinstance(value, list):
                changed[item.name] = [part.select(rows=rows, sentences=sentences) for part in value]
            elif isinstance(value, (tuple, dict)) and _holds_tensors(value):
                raise TypeError(
                    f"{type(self).__name__}.{item.name} holds tensors in a {type(value).__name__}: make it "
                    "a State, or a list of them"
                )
        return dataclasses.replace(self, **changed)


def _holds_tensors(values: tuple[Any, ...] | dict[Any, Any]) -> bool:
    members = values.values() if isinstance(values, dict) else values
    return any(isinstance(member, (Tensor, State)) for member in members)


@dataclass
class MemoryState(State):
    """Cross-attention: the memory's keys and values, computed once a sentence.

    Attributes:
        key: (B, kv_heads, S, Dk), as the core wants it for scoring.
        value: (B, kv_heads, S, Dv).
        key_padding_mask: (B, S), True = padding, or None.
    """

    key: Tensor = per_sentence()
    value: Tensor = per_sentence()
    key_padding_mask: Tensor | None = per_sentence(default=None)


@dataclass
class CacheState(State):
    """Self-attention: the keys and values of what was decoded so far.

    Attributes:
        key: (R, kv_heads, T, Dk), as the core wants it for scoring.
        value: (R, kv_heads, T, Dv).
        first: position of the oldest key kept; keys that no later query can see are dropped.
    """

    key: Tensor = per_row()
    value: Tensor = per_row()
    first: int = 0

    @property
    def length(self) -> int:
        """How many positions have been decoded, dropped ones included."""
        return self.first + self.key.shape[2]

    def append(self, key: Tensor, value: Tensor, reach: int | None) -> CacheState:
        """With one more position, (R, kv_heads, 1, D) each; keeps what ``reach`` positions back can see."""
        # What was begun in single precision goes on in what autocast makes: half the memory, and no copy each step.
        keys = torch.cat([self.key.to(key.dtype), key], dim=2)
        values = torch.cat([self.value.to(value.dtype), value], dim=2)
        excess = 0 if reach is None else max(0, keys.shape[2] - (reach + 1))
        return CacheState(keys[:, :, excess:], values[:, :, excess:], self.first + excess)


def decoded(state: State) -> int:
    """How many positions a state of self-attention has seen: each such state knows its ``length``."""
    return cast(_Growing, state).length


class _Growing(Protocol):
    @property
    def length(self) -> int: ...
