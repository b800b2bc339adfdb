"""A trained model under another config: other data to read, another search."""

from __future__ import annotations

from typing import Any

from attnbuild.errors import ConfigError, Problem
from attnbuild.training.checkpoint import Loaded, restore_task

__all__ = ["CHANGEABLE", "changed", "changed_config"]


#: What may be otherwise for a model that is trained.
CHANGEABLE = ("batch", "data", "plugins", "search", "trainer")


def changed(loaded: Loaded, changes: dict[str, Any]) -> Loaded:
    """The same model with another config: other data to read, another search.

    Raises:
        ConfigError: something is to be otherwise that the model was trained with.
    """
    if not changes:
        return loaded
    kept = [name for name in changes if name not in CHANGEABLE]
    if kept:
        able = ", ".join(CHANGEABLE)
        raise ConfigError([Problem(name, f"a trained model keeps it; what can be changed: {able}") for name in kept])
    config = changed_config(loaded.config, changes)
    return Loaded(restore_task(config, loaded.task.artifacts()), loaded.model, config)


def changed_config(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with changes merged over it; a section whose ``type`` is given is replaced as a whole."""
    merged = dict(config)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and "type" not in value:
            value = changed_config(old, value)
        merged[name] = value
    return merged
