"""Every name a user can choose, by kind."""

from __future__ import annotations

from attnbuild import registry

__all__ = ["list_names"]


def list_names(kind: str) -> list[str]:
    """The names of a kind: ``attention`` (the presets) or a registry kind (``core``, ``score``, ``encoder``, ...).

    Raises:
        ConfigError: there is no such kind.
    """
    if kind == "attention":
        from attnbuild.attention.presets import preset_names

        return preset_names()
    return registry.names(kind)
