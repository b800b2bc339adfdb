"""No positions."""

from __future__ import annotations

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.positions.base import Position
from attnbuild.registry import register

__all__ = ["NoPosition"]


@register("position", "none")
class NoPosition(Position):
    """Place does not enter here."""

    capabilities = Capabilities()
