"""Where a key got its value: the last composed file that holds it, or the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode
from omegaconf import OmegaConf

from attnbuild.cli.compose import CONFIG_NAME
from attnbuild.cli.overrides import COMMAND_LINE, is_choice, read_overrides
from attnbuild.cli.sources import ConfigFile, open_config
from attnbuild.errors import ConfigError, Problem

__all__ = ["Origins", "located"]


@contextmanager
def located(loader: ConfigLoader, overrides: Sequence[str]) -> Iterator[None]:
    """Fill in where each problem of a ConfigError came from.

    Args:
        loader: what composed the config.
        overrides: as Hydra read them.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(Origins(loader, overrides).locate(error.problems)) from error


class Origins:
    """The origin of each key of one composition.

    Args:
        loader: what composed it.
        overrides: the overrides as Hydra read them.
    """

    def __init__(self, loader: ConfigLoader, overrides: Sequence[str]) -> None:
        self.loader = loader
        self.overrides = list(overrides)

    def locate(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems with their origins filled in, where they lack one."""
        return [problem if problem.origin else replace(problem, origin=self.of(problem.path)) for problem in problems]

    def of(self, path: str) -> str:
        """The origin of a key; of the nearest section around it where no file has the key itself."""
        while path:
            origin = self._typed(path) or self._chosen(path) or self._held(path)
            if origin:
                return origin
            path = path.rpartition(".")[0]
        return ""

    def _typed(self, path: str) -> str:
        """An option typed for the key, or for a section with the key in it."""
        keys = [override.key_or_group for override in self._parsed if not self._is_choice(override)]
        return COMMAND_LINE if any(f"{path}.".startswith(f"{key}.") for key in keys) else ""

    def _chosen(self, path: str) -> str:
        """Who chose the preset, for a path that is a group: ``decoder.cross_attention``."""
        group = path.replace(".", "/")
        choices = self._defaults.overrides
        if group not in choices.known_choices:
            return ""
        chosen = choices.override_metadata.get(group)
        if chosen is None:
            return self._name(CONFIG_NAME)
        return COMMAND_LINE if chosen.external_override else self._name(chosen.containing_config_path or "")

    def _held(self, path: str) -> str:
        names = [file.name for package, file in self._files if _holds(file, package, path)]
        return names[-1] if names else ""

    def _is_choice(self, override: Any) -> bool:
        return is_choice(override, self._defaults.overrides.known_choices)

    def _name(self, path: str) -> str:
        file = open_config(self.loader, path)
        return file.name if file else path

    @cached_property
    def _parsed(self) -> list[Any]:
        return read_overrides(self.overrides, self.loader)[0]

    @cached_property
    def _defaults(self) -> Any:
        return self.loader.compute_defaults_list(CONFIG_NAME, self.overrides, RunMode.RUN)

    @cached_property
    def _files(self) -> list[tuple[str, ConfigFile]]:
        """Package and file, in the order in which they were merged."""
        opened = [
            (default.package or "", open_config(self.loader, default.config_path))
            for default in self._defaults.defaults
            if default.config_path and not default.config_path.startswith("hydra/")
        ]
        return [(package, file) for package, file in opened if file is not None]


def _holds(file: ConfigFile, package: str, path: str) -> bool:
    node: Any = OmegaConf.to_container(file.content, resolve=False)
    keys = path.split(".")
    if package:
        outer = package.split(".")
        if keys[: len(outer)] != outer:
            return False
        keys = keys[len(outer) :]
    for key in keys:
        inner = {str(name): value for name, value in node.items()} if isinstance(node, dict) else {}
        if key not in inner:
            return False
        node = inner[key]
    return True
