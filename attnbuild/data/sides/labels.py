"""Labels: one name out of a list, or any number of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnbuild.data.sides.base import Side
from attnbuild.errors import DataError, did_you_mean

__all__ = ["LabelsSide"]

_FILE = "labels.json"


class LabelsSide(Side):
    """Labels as their numbers in the list of names.

    Args:
        names: all labels; their order is that of the model's outputs.
        multi_label: whether an example may have any number of them, rather than one.
    """

    checks = True

    def __init__(self, names: Sequence[str], *, multi_label: bool = False) -> None:
        self.names, self.multi_label = list(names), multi_label
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def of(cls, values: Iterable[Any], *, multi_label: bool) -> LabelsSide:
        """The labels that occur in the training data, in the order of their names, numbers by their value.

        Raises:
            DataError: there is only one.
        """
        found = {name for value in values for name in _names(value)}
        if len(found) < 2:
            raise DataError(
                f"the training data has no more than one label: {', '.join(found)}; there is nothing to learn"
            )
        return cls(sorted(found, key=_order), multi_label=multi_label)

    @classmethod
    def from_artifacts(cls, artifacts: dict[str, str]) -> LabelsSide:
        """The labels that ``artifacts`` kept."""
        kept = json.loads(artifacts[_FILE])
        return cls(kept["names"], multi_label=kept["multi_label"])

    @property
    def outputs(self) -> int:
        """How many labels there are."""
        return len(self.names)

    def fingerprint(self) -> str:
        return json.dumps([self.names, self.multi_label])

    def artifacts(self) -> dict[str, str]:
        kept = {"names": self.names, "multi_label": self.multi_label}
        return {_FILE: json.dumps(kept, ensure_ascii=False, indent=1)}

    def check(self, values: Iterable[Any]) -> None:
        unseen: dict[str, int] = {}
        for number, value in enumerate(values, start=1):
            chosen = _names(value)
            if len(chosen) > 1 and not self.multi_label:
                told = ", ".join(map(repr, chosen))
                raise DataError(f"example {number} has the labels {told}: for several each, set task.multi_label=true")
            for name in chosen:
                if name not in self._numbers:
                    unseen.setdefault(name, number)
        if unseen:
            hint = did_you_mean(min(unseen), self.names, show=20)
            told = ", ".join(f"{name!r} (example {unseen[name]})" for name in sorted(unseen, key=_order))
            raise DataError(
                f"labels that the training data does not have: {told}; {hint}. Leave those examples out, "
                "or add some of the kind to the training data"
            )

    def encode(self, values: Sequence[Any]) -> list[np.ndarray]:
        return [np.array([self._numbers[name] for name in _names(value)], np.int32) for value in values]

    def text(self, value: Any) -> str:
        return "\n".join(_names(value))

    def width(self, stored: np.ndarray) -> int:
        return 1

    def collate(self, rows: Sequence[np.ndarray], draw: np.random.Generator | None = None) -> Tensor:
        """(B,) int64, or (B, labels) of 0.0 and 1.0 where there may be several."""
        if not self.multi_label:
            return torch.tensor([int(row[0]) for row in rows])
        chosen = torch.zeros(len(rows), len(self.names))
        for number, row in enumerate(rows):
            chosen[number, row.tolist()] = 1.0
        return chosen


def _names(value: Any) -> list[str]:
    """Without line breaks, which part labels from each other."""
    return [" ".join(name.split()) for name in ([value] if isinstance(value, str) else value)]


def _order(name: str) -> tuple[int, float, str]:
    """Numbers by their value, before names; "nan", which has no place among numbers, is a name."""
    try:
        value = float(name)
    except ValueError:
        value = math.nan
    return (1, 0.0, name) if math.isnan(value) else (0, value, name)
