"""Configs as they are typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names

__all__ = ["config_of"]


def config_of(words: Sequence[str]) -> dict[str, Any]:
    """The resolved config of the words after ``attnbuild train``."""
    with open_loader() as loader:
        composed = compose(loader, check_names(loader, list(words)))
        return resolve(composed, composed.hydra.runtime.choices)
