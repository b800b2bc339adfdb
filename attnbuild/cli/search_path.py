"""What Hydra searches besides folders: the places of a model, and what plugins add."""

from __future__ import annotations

import secrets

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from attnbuild.cli.places import PlaceSource
from attnbuild.cli.plugin_choices import PluginSource

__all__ = ["register_sources"]

_SOURCES = (PlaceSource, PluginSource)


class OwnSearchPath(SearchPathPlugin):
    """Puts our sources on every search path, behind the shipped configs."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for source in _SOURCES:
            search_path.append("attnbuild", f"{source.scheme()}://")


def register_sources() -> None:
    """Tell Hydra of them, and of ``${random_suffix:}`` in the name of a run folder. Repeatable."""
    plugins = Plugins.instance()
    for plugin in (*_SOURCES, OwnSearchPath):
        plugins.register(plugin)
    OmegaConf.register_new_resolver("random_suffix", lambda: secrets.token_hex(3), use_cache=True, replace=True)
