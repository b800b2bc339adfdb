"""Values of an option, from its type and range alone: inside, at and just beyond the limits."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from attnbuild.registry import KINDS, Option, check_value, names

__all__ = ["beyond", "inside"]

_WHOLE = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
_REAL = (0.0, 0.001, 0.1, 0.5, 0.9, 1.0, 1.5, 2.5, 10.0)
_LISTS: tuple[Any, ...] = ([], [1], [1, 1], [2, 1], [1, 1, 1])
_ODD = (None, True, False, -1, -0.5, math.nan, math.inf, "oops", [0], {"oops": 1})

#: What makes an example slow is bounded: option -> its largest value here.
_MOST = {"layers": 2, "width": 8, "lr": 1.0, "max_length_ratio": 1.5, "max_length_extra": 8, "n_best": 4, "patch": 32}
_MOST |= {"train": 40, "every": 4, "size": 32}
#: Data too small to hold each label, or each word, is a matter of the data: option -> its smallest value here.
_LEAST = {"train": 24}
#: Options for which nothing means very many -> what means a few.
_FEW = {"locales": ["de", "nl"]}


def inside(option: Option) -> list[Any]:
    """Small values that its type and range allow, the limits among them."""
    return _pool(_Key(option))[0]


def beyond(option: Option) -> list[Any]:
    """Values that they do not allow: just beyond the limits, or of another type."""
    return _pool(_Key(option))[1]


class _Key:
    """An option as a key of a cache: its type and default may not be hashable."""

    def __init__(self, option: Option) -> None:
        self.option, self.name = option, (option.name, repr(option.annotation), repr(option.default))

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.name == other.name


@functools.cache
def _pool(key: _Key) -> tuple[list[Any], list[Any]]:
    option = key.option
    values = [*_WHOLE, *_REAL, *_LISTS, *_ODD, *_literals(option.annotation), *_around(option.annotation)]
    values += [] if option.required else [option.default]
    values += [_FEW[option.name]] if option.name in _FEW else []
    if option.name in KINDS and not _literals(option.annotation):  # chooses a part, by name or with options
        values += [*names(option.name), *({"type": name} for name in names(option.name))]
    allowed, refused = [], []
    for value in values:
        if value in ("oops", {"oops": 1}):
            refused += [value] if check_value(option.annotation, value) else []
        elif check_value(option.annotation, value):
            refused.append(value)
        elif not _is_out_of_reach(option.name, value):
            allowed.append(value)
    return allowed, refused


def _is_out_of_reach(name: str, value: Any) -> bool:
    """Whether a value would cost much time, or is one for other data."""
    if isinstance(value, float) and not math.isfinite(value):
        return True
    if name in _FEW and not value:
        return True
    return isinstance(value, int | float) and not _LEAST.get(name, -math.inf) <= value <= _MOST.get(name, math.inf)


def _metadata(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())):
        yield from _metadata(part) if get_origin(annotation) is not Literal else ()


def _literals(annotation: Any) -> list[Any]:
    return [value for part in _metadata(annotation) if get_origin(part) is Literal for value in get_args(part)]


def _around(annotation: Any) -> list[Any]:
    """Each limit, and the nearest numbers on either side of it."""
    limits = [
        limit
        for part in _metadata(annotation)
        for limit in (getattr(part, side, None) for side in ("ge", "gt", "le", "lt"))
        if isinstance(limit, int | float)
    ]
    whole = [int(limit) + step for limit in limits for step in (-1, 0, 1)]
    real = [math.nextafter(limit, toward) for limit in limits for toward in (-math.inf, math.inf)]
    return [*whole, *map(float, whole), *real]
