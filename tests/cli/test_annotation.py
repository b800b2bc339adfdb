"""Types as a user reads them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

from attnbuild.cli.annotation import describe_type


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (bool, "true | false"),
        (str | None, "text | null"),
        (Annotated[int, Ge(1)], "int >= 1"),
        (Annotated[float, Gt(0), Le(1)] | None, "float > 0 <= 1 | null"),
        (Annotated[float, Interval(ge=0, lt=1)], "float >= 0 < 1"),
        (Annotated[int, Lt(3)], "int < 3"),
        (Literal["all", "none", None], "all | none | null"),
        (list[str], "list[text]"),
        (dict[str, Any], "dict[text, any]"),
    ],
)
def test_describe_type(annotation, text):
    assert describe_type(annotation) == text
