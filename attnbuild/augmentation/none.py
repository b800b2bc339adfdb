"""No augmentation."""

from __future__ import annotations

from typing import Any

from attnbuild.registry import register

__all__ = ["no_augmentation"]


@register("augmentation", "none")
def no_augmentation(place: Any) -> None:
    """Images as they are."""
