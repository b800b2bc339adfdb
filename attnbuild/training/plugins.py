"""Plugins that a run was trained with: they are code, and are imported only for a user who names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnbuild.errors import CheckpointError
from attnbuild.printable import in_one_line

__all__ = ["require_named_plugins"]


def require_named_plugins(config: dict[str, Any], named: Sequence[str], holder: str) -> None:
    """Refuse a config that needs plugins which the user has not named: importing one runs it.

    Raises:
        CheckpointError: with what to add.
    """
    needed = config.get("plugins")
    if not isinstance(needed, list) or not all(isinstance(name, str) for name in needed):
        raise CheckpointError(f"{holder}: its config does not list its plugins")
    if set(needed) - set(named):
        told = in_one_line(",".join(needed), 200)
        raise CheckpointError(f"{holder}: was trained with plugins; if you trust them, add plugins=[{told}]")
