"""A type annotation as a user reads it: ``Annotated[int, Ge(1)] | None`` is ``int >= 1 | null``."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types

__all__ = ["describe_type"]

_NAMES = {type(None): "null", str: "text", bool: "true | false", Any: "any"}


def describe_type(annotation: Any) -> str:
    """The values that an option takes, in one line."""
    if isinstance(annotation, str):
        return annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *limits = arguments
        return " ".join([describe_type(inner), *filter(None, map(_limit, limits))])
    if origin is Literal:
        return " | ".join("null" if value is None else str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(map(describe_type, arguments))
    if origin is not None and arguments:
        return f"{origin.__name__}[{', '.join(map(describe_type, arguments))}]"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limit(limit: Any) -> str:
    match limit:
        case annotated_types.Interval():
            return " ".join(filter(None, map(_limit, limit)))
        case annotated_types.Ge():
            return f">= {limit.ge}"
        case annotated_types.Gt():
            return f"> {limit.gt}"
        case annotated_types.Le():
            return f"<= {limit.le}"
        case annotated_types.Lt():
            return f"< {limit.lt}"
    return ""
