"""Going on with a run: its own config, with the few values that may change on the way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from attnbuild.errors import ConfigError, Problem
from attnbuild.registry import check_options
from attnbuild.sections import SECTIONS
from attnbuild.training.plugins import require_named_plugins

__all__ = ["CHANGEABLE", "resumed_config"]

#: What a resumed run may do otherwise. All else is part of what the run is: the state in the checkpoint
#: was made with it, and a new value would be ignored or would break the sequence of batches.
CHANGEABLE = (
    "trainer.max_steps",
    "trainer.max_minutes",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.log_every",
    "trainer.on_nan",
    "trainer.threads",
    "trainer.limit_eval_batches",
    "trainer.profiler",
    "validation.*",
    "search.*",
)


def resumed_config(
    stored: dict[str, Any], typed: list[str], path: str, plugins: Sequence[str] | None = None
) -> dict[str, Any]:
    """The config to go on with.

    Args:
        stored: the config of the run folder.
        typed: the overrides given with ``resume=``, as ``key=value``.
        path: the run folder, which the result has under ``resume``.
        plugins: those that the user named, among which the run's own must be; None where the run is known to be the
            caller's own.

    Raises:
        CheckpointError: the run needs a plugin that was not named, or its config is damaged.
        ConfigError: an override cannot take effect in a run that goes on; all of them together.
    """
    if plugins is not None:
        require_named_plugins(stored, plugins, path)
    config = copy.deepcopy(stored)
    problems = []
    for override in typed:
        key, _, value = override.lstrip("+").partition("=")
        if key in ("resume", "plugins") or key.startswith("hydra"):
            continue
        if not any(fnmatchcase(key, pattern) for pattern in CHANGEABLE):
            message = f"a run that is resumed keeps its config; it may change {', '.join(CHANGEABLE)}"
            problems.append(Problem(key, message, "command line"))
            continue
        section, found = _section(config, key)
        if not found:
            problems.append(Problem(key, "the resumed run has no such key", "command line"))
            continue
        section[key.rpartition(".")[2]] = yaml.safe_load(value)
        problems += _wrong_value(config, key)
    if problems:
        raise ConfigError(problems)
    config["resume"] = path
    return config


def _wrong_value(config: dict[str, Any], key: str) -> list[Problem]:
    """What the schema of a section says of one changed value; a search checks its own when it is built."""
    name = key.partition(".")[0]
    if name not in SECTIONS:
        return []
    found = check_options(SECTIONS[name], config[name], name, f"section {name!r}")
    return [Problem(key, problem.message, "command line") for problem in found if problem.path == key]


def _section(config: dict[str, Any], key: str) -> tuple[dict[str, Any], bool]:
    """The mapping that holds a dotted key, and whether it does."""
    *sections, name = key.split(".")
    for section in sections:
        config = config.get(section, {})
        if not isinstance(config, dict):
            return {}, False
    return config, name in config
