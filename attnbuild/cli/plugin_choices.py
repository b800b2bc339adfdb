"""Hydra's view of what plugins added by ``attnbuild.add_choice``."""

from __future__ import annotations

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from attnbuild.choices import CHOICES

__all__ = ["PluginSource"]


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
