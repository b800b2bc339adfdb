"""Round 2: all wrong options at once. Every key is held to the constructor that reads it.

Needs torch, since that is where the parts are, but neither lightning, torchmetrics nor datasets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attnbuild.errors import CheckpointError, ConfigError, Problem, did_you_mean
from attnbuild.registry import check_options, check_part, load_plugins, options_of
from attnbuild.sections import OF_SWEEPS, SECTIONS, Settings

__all__ = ["check_config", "check_sweep", "require_right"]

#: Path of a section -> kind of the part that its ``type`` names.
_PARTS = {
    "task": "task",
    "data": "data",
    "tokenizer": "tokenizer",
    "augmentation": "augmentation",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "search": "search",
    "validation.search": "search",
    "sweeper": "sweeper",
    "launcher": "launcher",
}

#: Sections that hold any number of parts by name.
_PARTS_BY_NAME = {"callbacks": "callback", "logger": "logger"}

#: Sections that ``attnbuild.model`` checks, as it alone knows how they depend on each other.
_MODEL = ("encoder", "decoder", "attention")


def require_right(config: dict[str, Any]) -> None:
    """Refuse a resolved config that cannot be built.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems = check_config(config)
    if problems:
        raise ConfigError(problems)


def check_config(config: dict[str, Any]) -> list[Problem]:
    """Everything that is wrong with a resolved config; no problems where it can be built.

    Args:
        config: from ``resolve``: plain Python values.
    """
    problems = _check_top_level(config)
    broken = {problem.path.partition(".")[0] for problem in problems}
    if "plugins" not in broken:
        try:
            load_plugins(config["plugins"])
        except ConfigError as error:
            return problems + list(error.problems)  # the parts that it registers cannot be judged
    for path, kind in _PARTS.items():
        section = _at(config, path)
        if path.partition(".")[0] not in broken and (section is not None or path not in OF_SWEEPS):
            problems += check_part(kind, section, path)
    for key, kind in _PARTS_BY_NAME.items():
        if key not in broken:
            for name, options in config[key].items():
                problems += _check_named(kind, str(name), options, f"{key}.{name}")
    if "init_from" not in broken:
        problems += _check_start(config)
    return problems + _check_together(config, broken, whole=not problems)


def check_sweep(config: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the sections that are about the jobs of a sweep."""
    problems = check_options(SECTIONS["sweep"], config["sweep"], "sweep", "section 'sweep'")
    return problems + [problem for name in ("sweeper", "launcher") for problem in check_part(name, config[name], name)]


def _check_start(config: Mapping[str, Any]) -> list[Problem]:
    """Whether the weights to start from are there; a run that is resumed has started."""
    from attnbuild.training.checkpoint import chosen_file

    if not config["init_from"] or config["resume"]:
        return []
    try:
        file = chosen_file(config["init_from"])
    except CheckpointError as error:
        return [Problem("init_from", str(error))]
    return [] if file.is_file() else [Problem("init_from", f"there is no file {file}")]


def _check_together(config: dict[str, Any], broken: set[str], whole: bool) -> list[Problem]:
    """What only shows when sections are taken together: task and data, encoder, decoder and attentions.

    Args:
        config: the resolved config.
        broken: keys whose sections cannot be read at all.
        whole: whether every section is right by itself.
    """
    from attnbuild.inputs import Ends, TextInput
    from attnbuild.model import check_model
    from attnbuild.training.checkpoint import build_task

    ends, problems = Ends(TextInput(8, 0), 8), []
    if whole:
        try:
            task = build_task(config)
            problems = task.check()
            ends = task.sketch()
        except ConfigError as error:
            return list(error.problems)
    if problems or broken.intersection(_MODEL):
        return problems
    return check_model(config, ends, assemble=whole)


def _check_top_level(config: Mapping[str, Any]) -> list[Problem]:
    """Sections that are missing, no sections at all or unknown; the options of those that are no parts."""
    sections = {*SECTIONS, *_PARTS, *_PARTS_BY_NAME, *_MODEL} - {"validation.search"}
    settings = options_of(Settings)
    known = sections | set(settings)
    problems = [
        Problem(str(key), f"there is no such key; {did_you_mean(str(key), known)}")
        for key in config
        if key not in known
    ]
    values = {key: value for key, value in config.items() if key in settings}
    problems += check_options(Settings, values, "", "the config")
    for key in sorted(sections - {name for name in OF_SWEEPS if name not in config}):
        if not isinstance(config.get(key), dict):
            problems.append(Problem(key, f"{config.get(key)!r}: expected a section of options"))
        elif key in SECTIONS:
            problems += check_options(SECTIONS[key], config[key], key, f"section {key!r}")
    return problems


def _check_named(kind: str, name: str, options: Any, path: str) -> list[Problem]:
    """Hold options to the part of that name; an inner ``type`` names another one, null switches it off."""
    if options is None:
        return []
    if not isinstance(options, dict):
        return [Problem(path, f"{options!r}: expected a section of options, or null to switch it off")]
    problems = check_part(kind, {"type": name, **options}, path)
    # Where the key itself is the name, the key is what is wrong.
    named_by = f"{path}.type" if "type" in options else path
    return [replace(problem, path=named_by) if problem.path == f"{path}.type" else problem for problem in problems]


def _at(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
