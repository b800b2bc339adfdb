"""``attnbuild list [KIND] [GLOB] [plugins=[...]] [--json]``: what there is to choose, and its options."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from attnbuild.choices import CHOICES
from attnbuild.cli.annotation import describe_type
from attnbuild.cli.arguments import refuse
from attnbuild.errors import ConfigError, did_you_mean
from attnbuild.paths import conf_dir
from attnbuild.registry import KINDS, Option, load_plugins, lookup, names, options_of, summary_of

__all__ = ["entries", "kinds", "run"]

#: What ``attnbuild list`` lists besides the kinds of parts: the presets.
ATTENTION = "attention"


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: there is no such kind, or nothing of that name.
    """
    parser = argparse.ArgumentParser(
        prog="attnbuild list",
        usage="attnbuild list [KIND] [GLOB] [plugins=[MODULE,...]] [--json]",
        description="What there is to choose, with options, defaults and papers; with plugins=[...] theirs too.",
    )
    parser.error = refuse  # type: ignore[method-assign]
    parser.add_argument("kind", nargs="?", help="attention, a kind of part or a config group; none lists them")
    parser.add_argument("glob", nargs="?", help="only names like this, with all that is known of each: 'luong*'")
    parser.add_argument("--json", action="store_true", help="for programs")
    plugins = [word for word in words if word.startswith("plugins=")]
    given = parser.parse_args([word for word in words if word not in plugins])
    if plugins:
        from attnbuild.cli.overrides import plugins_in

        load_plugins(plugins_in(plugins))
    if given.kind is None:
        found = [{"name": kind, "summary": ", ".join(_names(kind))} for kind in kinds()]
    else:
        found = entries(given.kind, given.glob or "*")
    if given.json:
        json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
        print()
        return 0
    from attnbuild.cli.tables import print_details, print_kinds, print_overview

    if given.kind is None:
        print_kinds({kind: _names(kind) for kind in kinds()}, hint="what there is of a kind: attnbuild list KIND")
    elif given.glob:
        print_details(found)
    else:
        print_overview(found, hint=f"all that is known of one: attnbuild list {given.kind} NAME")
    return 0


def kinds() -> list[str]:
    """What can be listed: the presets, the kinds of parts, and the config groups that are no parts."""
    groups = [path.name for path in conf_dir().iterdir() if path.is_dir() and any(path.glob("*.yaml"))]
    plural = {"callbacks"}  # the group of the kind "callback"
    return [ATTENTION, *KINDS, *sorted({*groups} - {*KINDS, *plural, ATTENTION, "hydra"})]


def entries(kind: str, glob: str = "*") -> list[dict[str, Any]]:
    """Each choice with ``name``, ``summary``, and, where it has them, ``options`` and ``capabilities``.

    Args:
        kind: one of ``kinds()``.
        glob: which names, in whatever case.

    Raises:
        ConfigError: there is no such kind, or nothing of that name.
    """
    if kind not in kinds():
        raise ConfigError(f"there is no kind {kind!r} to list; {_meant(kind)}")
    known = _names(kind)
    matching = [name for name in known if fnmatchcase(name.lower(), glob.lower())]
    if not matching:
        raise ConfigError(f"there is no {kind} {glob!r}; {did_you_mean(glob, known)}")
    return [_entry(kind, name) for name in matching]


def _meant(word: str) -> str:
    """Advice for who typed ``attention=luong*``, the name of a choice without its kind, or what is neither."""
    kind, equals, glob = word.partition("=")
    meant = [(kind, glob)] if equals and kind in kinds() else []
    if not equals:
        meant = [(kind, name) for kind in kinds() for name in _names(kind) if name == word.lower()]
    commands = [f"`attnbuild list {kind} {shlex.quote(name)}`" for kind, name in meant]
    return f"type {' or '.join(commands)}" if commands else did_you_mean(word, kinds())


def _names(kind: str) -> list[str]:
    if kind in KINDS:
        return names(kind)
    added = [path.removeprefix(f"{kind}/") for path in CHOICES if path.startswith(f"{kind}/")]
    return sorted({*added, *(path.stem for path in (conf_dir() / kind).glob("*.yaml"))})


def _entry(kind: str, name: str) -> dict[str, Any]:
    if kind == ATTENTION:
        from attnbuild.attention import describe

        described = describe(name)
        return {**described, "options": [_option(option) for option in described["options"]]}
    if kind in KINDS:
        part = lookup(kind, name)
        options = [_option(vars(option) | {"type": option.annotation}) for option in options_of(part).values()]
        return {"name": name, "summary": summary_of(part), "options": options}
    return {"name": name, "summary": _first_comment(kind, name)}


def _option(option: Mapping[str, Any]) -> dict[str, Any]:
    required = Option(option["name"], None, option["default"], "").required
    return {
        "name": option["name"],
        "type": describe_type(option["type"]),
        "default": None if required else option["default"],
        "required": required,
        "help": option["help"],
    }


def _first_comment(group: str, name: str) -> str:
    """The first line of a config file that says what it is for."""
    file = conf_dir() / group / f"{name}.yaml"
    content = file.read_text(encoding="utf-8") if file.is_file() else CHOICES[f"{group}/{name}"]
    for line in content.splitlines():
        text = line.removeprefix("#").strip()
        if line.startswith("#") and not text.startswith("@"):
            return text
    return ""
