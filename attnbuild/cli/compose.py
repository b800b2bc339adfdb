"""From overrides to one plain dict: Hydra composes, this resolves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnbuild.cli.overrides import plugins_in, search_path_in
from attnbuild.cli.places import PLACES
from attnbuild.cli.search_path import register_sources
from attnbuild.cli.translate import translated
from attnbuild.errors import ConfigError
from attnbuild.paths import conf_dir
from attnbuild.registry import load_plugins
from attnbuild.sections import INHERIT
from attnbuild.yaml_files import check_yaml

__all__ = ["CONFIG_NAME", "VERSION_BASE", "compose", "open_loader", "resolve", "resolve_alone"]

CONFIG_NAME = "config"
VERSION_BASE = "1.3"


@contextmanager
def open_loader(config_dir: str | None = None, typed: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Hydra's config loader over the shipped configs and, behind them, a user's folders and plugins.

    Args:
        config_dir: a folder of the user's.
        typed: the overrides; ``hydra.searchpath=[...]`` among them adds folders, ``plugins=[...]`` what those add.

    Raises:
        ConfigError: the user's folder does not exist, or a plugin cannot be imported.
    """
    if plugins := plugins_in(typed):
        load_plugins(plugins)
    register_sources()
    version.setbase(VERSION_BASE)
    search_path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        if not os.path.isdir(config_dir):
            raise ConfigError(f"there is no such folder: {os.path.abspath(config_dir)}", "--config-dir")
        folder = f"file://{os.path.abspath(config_dir)}"
        search_path.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    for folder in search_path_in(typed):
        search_path.prepend("hydra.searchpath", folder, SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        loader = Hydra.create_main_hydra2("train", search_path).config_loader
        for source in loader.get_sources():
            if source.scheme() == "file" and source.provider != "main":
                source.load_config = partial(_load_tame, source, source.load_config)  # type: ignore[method-assign]
        yield loader
    finally:
        GlobalHydra.instance().clear()


def _load_tame(source: ConfigSource, load: Callable[[str], ConfigResult], config_path: str) -> ConfigResult:
    """Read a user's config file, unless it would unfold without end: OmegaConf copies what an alias names."""
    file = Path(source.path, f"{config_path.removesuffix('.yaml')}.yaml")
    try:
        with suppress(yaml.YAMLError):  # reading it below says where
            if file.is_file():
                check_yaml(file)
    except ValueError as error:
        raise ConfigError(f"cannot be read: {error}", str(file)) from error
    return load(config_path)


def compose(
    loader: ConfigLoader, overrides: Sequence[str], multirun: bool = False, name: str | None = CONFIG_NAME
) -> DictConfig:
    """Compose a config, with Hydra's own part under ``hydra``.

    Args:
        loader: from ``open_loader``.
        overrides: as Hydra shall read them.
        multirun: leave values that are swept out, as each job will choose its own.
        name: the primary config; None composes the overrides alone.

    Raises:
        ConfigError: a file cannot be read or does not fit together; the message names it.
    """
    with translated(ValueError):
        return loader.load_configuration(name, list(overrides), RunMode.MULTIRUN if multirun else RunMode.RUN)


def resolve(config: DictConfig, choices: Mapping[str, Any], run: Path | None = None) -> dict[str, Any]:
    """The config as plain Python values, every ``${...}`` filled in.

    ``attention`` and each place get a key ``preset``, the name that was chosen; paths become absolute.

    Args:
        config: a composed config, with or without Hydra's part.
        choices: ``hydra.runtime.choices``: what was chosen in each group.
        run: the folder of the run, where there is one.

    Raises:
        ConfigError: a ``${...}`` points nowhere, or a value that must be given is not.
    """
    plain = resolve_alone(config)
    _name_preset(plain, "attention", choices.get("attention"))
    for place in PLACES:
        part, _, attention = place.partition("/")
        if isinstance(plain.get(part), dict):
            _name_preset(plain[part], attention, choices.get(place, INHERIT))
    if isinstance(plain.get("paths"), dict):
        outputs = plain["paths"].get("outputs")
        plain["paths"]["outputs"] = os.path.abspath(outputs) if isinstance(outputs, str) else outputs
        plain["paths"]["run"] = None if run is None else str(run.absolute())
    return plain


def resolve_alone(config: DictConfig) -> dict[str, Any]:
    """The config as plain Python values, as it stands; without Hydra's part.

    Raises:
        ConfigError: a ``${...}`` points nowhere, or a value that must be given is not.
    """
    with translated():
        ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        plain: Any = OmegaConf.to_container(ours, resolve=True, throw_on_missing=True)
    return plain


def _name_preset(section: dict[str, Any], key: str, preset: str | None) -> None:
    options = section.get(key) or {}
    if isinstance(options, dict):  # anything else is for the check of options to refuse
        section[key] = {"preset": preset, **options}
