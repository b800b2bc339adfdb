"""Hydra's view of what plugins added by ``attnbuild.add_choice``."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from attnbuild.choices import CHOICES

__all__ = ["register_plugin_choices"]


class PluginSource(ConfigSource):
    """Answers with the content that a plugin added."""

    @staticmethod
    def scheme() -> str:
        return "plugins"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return any(path.startswith(f"{config_path}/" if config_path else "") for path in CHOICES)

    def is_config(self, config_path: str) -> bool:
        return config_path.removesuffix(".yaml") in CHOICES

    def load_config(self, config_path: str) -> ConfigResult:
        text = CHOICES[config_path.removesuffix(".yaml")]
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(text),
            header=self._get_header_dict(text),
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        start = f"{config_path}/" if config_path else ""
        inner = [path.removeprefix(start).split("/") for path in CHOICES if path.startswith(start)]
        groups = {parts[0] for parts in inner if len(parts) > 1}
        configs = {parts[0] for parts in inner if len(parts) == 1}
        wanted = {ObjectType.GROUP: groups, ObjectType.CONFIG: configs}
        return sorted(wanted.get(results_filter, groups | configs) if results_filter else groups | configs)


class PluginSearchPath(SearchPathPlugin):
    """Puts the choices of plugins on every search path, behind the shipped configs."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("attnbuild-plugins", f"{PluginSource.scheme()}://")


def register_plugin_choices() -> None:
    """Tell Hydra of them. Repeatable."""
    plugins = Plugins.instance()
    plugins.register(PluginSource)
    plugins.register(PluginSearchPath)
