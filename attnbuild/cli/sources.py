"""Single config files, before they are composed."""

from __future__ import annotations

import os
from typing import NamedTuple

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from attnbuild.cli.translate import translated

__all__ = ["ConfigFile", "open_config"]


class ConfigFile(NamedTuple):
    """A config as it lies in its file.

    Attributes:
        name: how messages call the file: ``conf/attention/window.yaml``, or its path in a user's folder.
        content: what it holds, the defaults list included.
    """

    name: str
    content: DictConfig


def open_config(loader: ConfigLoader, path: str) -> ConfigFile | None:
    """The config that ``group/choice`` stands for, or None where no file on the search path is it.

    Raises:
        ConfigError: the file is not valid YAML.
    """
    for source in loader.get_sources():
        if source.is_config(path):
            with translated():
                content = source.load_config(path).config
            if not isinstance(content, DictConfig):
                return None
            return ConfigFile(_name(source.provider, source.scheme(), source.path, path), content)
    return None


def _name(provider: str, scheme: str, folder: str, path: str) -> str:
    if provider == "main":
        return f"conf/{path}.yaml"
    if scheme != "file":
        return f"{scheme}://{folder}/{path}"
    file = os.path.join(folder, f"{path}.yaml")
    inside = os.path.relpath(file)
    return file if inside.startswith(os.pardir) else inside
