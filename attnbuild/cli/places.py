"""Presets at one place of the model: ``decoder/cross_attention=bahdanau``.

Presets live once, in ``attention/``, the shipped ones and those of a user's folder alike. A place is a
config group without files: this source answers ``<place>/NAME`` with a config that holds nothing but
the defaults list ``[/attention@_here_: NAME]``, so Hydra finds the preset wherever it is and puts it at
the place. ``inherit``, each place's default, is empty: the place follows ``attention=``.
"""

from __future__ import annotations

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from attnbuild.sections import INHERIT

__all__ = ["PLACES", "PlaceSource"]

PLACES = ("encoder/attention", "decoder/self_attention", "decoder/cross_attention")


class PlaceSource(ConfigSource):
    """Answers for the groups of PLACES, and for nothing else."""

    @staticmethod
    def scheme() -> str:
        return "places"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return any(place == config_path or place.startswith(f"{config_path}/") for place in PLACES)

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.rpartition("/")
        return group in PLACES and bool(name)

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.rpartition("/")[2].removesuffix(".yaml")
        content = {} if name == INHERIT else {"defaults": [{"/attention@_here_": name}]}
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(content),
            header={"package": None},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        inner = {place.removeprefix(f"{config_path}/") for place in PLACES if place.startswith(f"{config_path}/")}
        names = inner if results_filter != ObjectType.CONFIG else set()
        if config_path in PLACES and results_filter != ObjectType.GROUP:
            names = names | {INHERIT, *_presets()}
        return sorted(names)


def _presets() -> list[str]:
    """The presets of all folders on the search path of the Hydra that runs."""
    hydra = GlobalHydra.instance()
    if not hydra.is_initialized():
        return []
    return hydra.config_loader().get_group_options("attention")
