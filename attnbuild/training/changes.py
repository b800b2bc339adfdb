"""A trained model under another config: other data to read, another search."""

from __future__ import annotations

from typing import Any

from attnbuild.training.checkpoint import Loaded, restore_task

__all__ = ["changed", "changed_config"]


def changed(loaded: Loaded, changes: dict[str, Any]) -> Loaded:
    """The same model with another config: other data to read, another search."""
    if not changes:
        return loaded
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
