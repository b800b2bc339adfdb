"""Presets: named points in the space of parts, one flat YAML each in ``conf/attention``."""

from __future__ import annotations

import functools
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from attnbuild.errors import ConfigError, did_you_mean
from attnbuild.paths import conf_dir

__all__ = ["load_preset", "preset_names", "preset_summary"]


def preset_names() -> list[str]:
    """Every shipped preset, sorted."""
    return sorted(path.stem for path in (conf_dir() / "attention").glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """The options of a preset, ``preset`` (its own name) among them.

    Raises:
        ConfigError: there is no such preset; the message gives the nearest.
    """
    return {"preset": name, **_options(_file(name))}


def preset_summary(name: str) -> str:
    """What a preset is and which paper it comes from: the comment that heads its file.

    Raises:
        ConfigError: there is no such preset.
    """
    lines = _file(name).read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


@functools.cache
def _options(file: Path) -> dict[str, Any]:
    """What a file holds, read once: a check of a config asks for presets many times."""
    options = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


def _file(name: str) -> Path:
    if name not in preset_names():
        raise ConfigError(f"unknown attention {name!r}; {did_you_mean(name, preset_names())}", "attention")
    return conf_dir() / "attention" / f"{name}.yaml"
