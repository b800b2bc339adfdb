"""Configs as a user types them: words such as ``encoder=rnn`` and ``encoder.dim=16``, over a composed config.

The whole of Hydra takes a second for each config. Here it composes one for each task; what words change in
it is changed in the plain dict, and a test holds a share of the outcomes against Hydra's own.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from attnbuild.cli.check import _PARTS
from attnbuild.cli.compose import compose, open_loader
from attnbuild.cli.names import Names, _unknown_choice, check_names, known_names
from attnbuild.cli.places import PLACES
from attnbuild.errors import ConfigError, Problem
from attnbuild.registry import lookup, options_of
from attnbuild.sections import INHERIT, OF_SWEEPS

__all__ = ["PARTS", "Words", "config_of", "default_type", "known", "load", "typed", "value_at"]

#: Group ("encoder", "decoder/self_attention") -> choice, dotted path -> value.
Words = dict[str, Any]

#: Path of a section -> kind of the part that it describes, of all that belong to one run.
PARTS = {path: kind for path, kind in _PARTS.items() if path not in (*OF_SWEEPS, "task")}
PARTS |= {"encoder": "encoder", "decoder": "decoder"}

#: What keeps examples small: option of a part -> its value where no word says otherwise.
SMALL: dict[str, dict[str, Any]] = {
    "data": {"locales": ["de", "nl", "sv"], "train": 40, "validation": 3, "test": 3},
    "encoder": {"layers": 1, "feedforward": 16, "width": 4, "blocks": [1, 1]},
    "decoder": {"layers": 1, "feedforward": 16},
    "tokenizer": {"vocab_size": 300},
    "search": {"max_length_ratio": 0.0, "max_length_extra": 4},
    "validation.search": {"max_length_ratio": 0.0, "max_length_extra": 4},
}
TINY: Words = {
    "model.dim": 16,
    "image.size": 8,
    "batch.tokens": 256,
    "batch.rows": 4,
    "validation.every": 2,
    "validation.maps": 0,
    "trainer.max_steps": 1,
    "trainer.limit_eval_batches": 1,
    "callbacks": "none",
}


@functools.cache
def known() -> Names:
    """The names that overrides may have."""
    with open_loader() as loader:
        return known_names(loader)


@functools.cache
def load(file: str) -> dict[str, Any]:
    """What a file of ``conf`` holds, with its ``${...}`` as they stand."""
    from attnbuild.paths import conf_dir

    return dict(OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{file}.yaml")))  # type: ignore[arg-type]


@functools.cache
def _composed(task: str) -> dict[str, Any]:
    with open_loader() as loader:
        config = compose(loader, check_names(loader, [f"task={task}", "callbacks=none"]))
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", *OF_SWEEPS)])
    return dict(OmegaConf.to_container(ours, resolve=False))  # type: ignore[arg-type]


def default_type(task: str, path: str) -> str:
    """The part that a task's config has in a section."""
    return _at(_composed(task), path)["type"]


def config_of(words: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved config that these words make.

    Raises:
        ConfigError: choices that do not exist.
    """
    _require_choices(words)
    task = words.get("task", "translation")
    config = copy.deepcopy(_composed(task))
    for group, name in words.items():
        if "." not in group and group in PARTS:
            config[group] = _chosen(task, group, name)
    for place in PLACES:
        part, attention = place.split("/")
        config[part][attention] = {
            "preset": words.get(place, INHERIT),
            **(load(f"attention/{words[place]}") if words.get(place, INHERIT) != INHERIT else {}),
        }
    root = words.get("attention", "multihead")
    config["attention"] = {"preset": root, **load(f"attention/{root}")}
    for path, value in _all_options(words, config).items():
        _put(config, path, copy.deepcopy(value))
    config["paths"]["run"] = None
    return _filled(config, config)


def _require_choices(words: Mapping[str, Any]) -> None:
    groups = known().groups
    problems = [
        Problem(group, _unknown_choice(str(name), group, known()))
        for group, name in words.items()
        if "." not in group and group in groups and name not in groups[group]
    ]
    if problems:
        raise ConfigError(problems)


def _chosen(task: str, group: str, name: str) -> dict[str, Any]:
    """A choice with what the task says of that section, as its file is composed later."""
    return {**load(f"{group}/{name}"), **load(f"task/{task}").get(group, {})}


def _all_options(words: Mapping[str, Any], config: dict[str, Any]) -> Words:
    """The options of the words, and those that keep the rest small."""
    small = {}
    for path, options in SMALL.items():
        kind = PARTS[path]
        chosen = words.get(f"{path}.type", _at(config, path).get("type"))
        if chosen not in known().groups.get(kind, [chosen]):
            continue
        declared = options_of(lookup(kind, chosen))
        small |= {f"{path}.{name}": value for name, value in options.items() if name in declared}
    options = {path: value for path, value in words.items() if "." in path or path not in known().groups}
    return {**{path: value for path, value in TINY.items() if "." in path}, **small, **options}


def typed(words: Mapping[str, Any]) -> list[str]:
    """The words with all that keeps the rest small, as they would be typed."""
    options = _all_options(words, config_of(words))
    groups = {name: value for name, value in words.items() if "." not in name and name in known().groups}
    return [f"{key}={_written(value)}" for key, value in {"callbacks": "none", **groups, **options}.items()]


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if value is None:
        return "null"
    return value if isinstance(value, str) and value else json.dumps(value)


def _at(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    node: Any = config
    for key in path.split("."):
        node = node[key]
    return node


def _put(config: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    node = config
    for key in sections:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    if isinstance(value, Mapping) and isinstance(node.get(name), dict):
        node[name] = {**node[name], **value}  # as Hydra merges
    else:
        node[name] = value


def _filled(node: Any, root: dict[str, Any]) -> Any:
    """With every ``${section.key}`` replaced by its value."""
    if isinstance(node, Mapping):
        return {key: _filled(value, root) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, root) for value in node]
    if isinstance(node, str) and node.startswith("${"):
        return _filled(_at(root, node[2:-1]), root)
    return node


def value_at(words: Mapping[str, Any], path: str) -> Any:
    """What a path holds in the config of these words."""
    config = config_of(words)
    *sections, name = path.split(".")
    return _at(config, ".".join(sections))[name] if sections else config[name]
