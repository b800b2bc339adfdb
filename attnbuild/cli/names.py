"""Round 1: all wrong names at once. Groups, their choices, top-level keys; typed or in a chosen file.

Nothing here needs torch. Options and their values are round 2, ``check.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig

from attnbuild.cli.compose import CONFIG_NAME
from attnbuild.cli.overrides import COMMAND_LINE, choices_in, is_choice, pass_on, read_overrides
from attnbuild.cli.places import PLACES
from attnbuild.cli.sources import open_config
from attnbuild.cli.translate import translated
from attnbuild.errors import ConfigError, Problem, did_you_mean
from attnbuild.sections import INHERIT

__all__ = ["Names", "check_names", "known_names"]


@dataclass(frozen=True)
class Names:
    """The names that exist on a search path.

    Attributes:
        groups: group -> its choices.
        in_defaults: what the primary config's defaults list chooses in each of its groups; None is nothing.
        keys: top-level keys of a composed config.
        sections: those of them that hold options and are no group.
    """

    groups: dict[str, list[str]]
    in_defaults: dict[str, str | None]
    keys: frozenset[str]
    sections: frozenset[str]


def known_names(loader: ConfigLoader) -> Names:
    """What there is on the search path, the user's folders included."""
    with translated():
        defaults = loader.compute_defaults_list(CONFIG_NAME, [], RunMode.MULTIRUN)
    in_defaults = dict(defaults.overrides.known_choices)
    groups: dict[str, list[str]] = {group: [] for group in in_defaults} | dict(_walk(loader.get_sources(), ""))
    for place in PLACES:
        groups[place] = sorted({INHERIT, *groups["attention"]})
    primary = open_config(loader, CONFIG_NAME)
    own = {str(key): value for key, value in primary.content.items_ex(resolve=False)} if primary else {}
    chosen = {(default.package or "").partition(".")[0] for default in defaults.defaults}
    keys = {*own, *chosen} - {"", "defaults", "hydra"}
    sections = {key for key, value in own.items() if isinstance(value, DictConfig)} - set(groups)
    return Names(groups, in_defaults, frozenset(keys), frozenset(sections))


def _walk(sources: Sequence[ConfigSource], parent: str) -> Iterator[tuple[str, list[str]]]:
    """Every group below a parent with its choices. Hydra's own listing copies all sources for each group."""
    here = [source for source in sources if source.available() and source.is_group(parent)]
    for name in sorted({name for source in here for name in source.list(parent, ObjectType.GROUP)}):
        group = f"{parent}/{name}" if parent else name
        if any(_is_loop(source.path, parent, group) for source in here):
            continue
        listed = [source.list(group, ObjectType.CONFIG) for source in sources if source.is_group(group)]
        yield group, sorted({choice for choices in listed for choice in choices})
        yield from _walk(sources, group)


def _is_loop(folder: str, parent: str, group: str) -> bool:
    """Whether a group's folder is a link to one around it."""
    outer, inner = (os.path.realpath(os.path.join(folder, name)) for name in (parent, group))
    return os.path.commonpath([outer, inner]) == inner


def check_names(loader: ConfigLoader, typed: Sequence[str], multirun: bool = False, alone: bool = False) -> list[str]:
    """Hold all overrides against the names there are.

    Args:
        loader: from ``open_loader``.
        typed: the overrides.
        multirun: whether a key may have several values, one a job.
        alone: the overrides are composed without the primary config.

    Returns:
        The overrides as Hydra shall read them.

    Raises:
        ConfigError: every name that is wrong and every override that cannot be read.
    """
    names = known_names(loader)
    overrides, problems = read_overrides(typed, loader)
    problems = [_with_key(problem, names) for problem in problems]
    for override in overrides:
        if is_choice(override, names.groups):
            problems += _check_choices(override, names)
            problems += _check_files(loader, override, names)
        else:
            problems += _check_key(override, names)
        if override.is_sweep_override() and not multirun:
            problems.append(_needs_multirun(override))
    if problems:
        raise ConfigError(problems)
    return [pass_on(override, names.groups, () if alone else names.in_defaults) for override in overrides]


def _with_key(problem: Problem, names: Names) -> Problem:
    """For who typed a choice alone, such as ``longformer``: the override that chooses it."""
    word = problem.path.lower()
    meant = [f"{group}={word}" for group in {*names.in_defaults} - {*PLACES} if word in names.groups[group]]
    if not meant or "=" in problem.path:
        return problem
    return replace(problem, message=f"{problem.message}; did you mean {' or '.join(sorted(meant))}?")


def _check_choices(override: Override, names: Names) -> list[Problem]:
    group = override.key_or_group
    if override.package is not None:
        message = "is chosen without '@'; one place of a model is a group: decoder/cross_attention=bahdanau"
        return [Problem(group, message, COMMAND_LINE)]
    chosen = choices_in(override)
    if not chosen and not override.is_sweep_override() and names.in_defaults.get(group):
        return [Problem(group, f"a choice is needed; {did_you_mean('', names.groups[group])}", COMMAND_LINE)]
    return [
        Problem(group, _unknown_choice(name, group, names), COMMAND_LINE)
        for name in chosen
        if not _exists(group, name, names)
    ]


def _check_key(override: Override, names: Names) -> list[Problem]:
    key = override.key_or_group
    if override.is_hydra_override() and not key.startswith("hydra/"):
        return []  # Hydra holds its own options to its own schema
    message = _wrong_key(key, override, names)
    return [Problem(key, message, COMMAND_LINE)] if message else []


def _wrong_key(key: str, override: Override, names: Names) -> str | None:
    if not key:
        return f"{override.input_line!r} has no key before the '='"
    if "/" in key:
        dotted = key.replace("/", ".")
        hint = f"; an option is written {dotted}=..." if dotted.partition(".")[0] in names.keys else ""
        return f"there is no such group; {did_you_mean(key, names.groups, show=8)}{hint}"
    if override.package is not None:
        return "there is no such group; options are written without '@': attention.window=4"
    group = key.replace(".", "/")
    if group in names.groups and not isinstance(override.value(), dict) and not override.is_delete():
        return f"is a section of options; a preset is chosen with a slash: {group}=..."
    top = key.partition(".")[0]
    if top not in names.keys:
        groups = [] if "." in key else [group for group in names.groups if not group.startswith("hydra")]
        return f"there is no key {top!r}; {did_you_mean(top, {*names.keys, *groups})}"
    if key in names.sections and not isinstance(override.value(), dict):
        return f"is a section of options; set one of them: {key}.NAME=..."
    return None


def _needs_multirun(override: Override) -> Problem:
    values = override.input_line or ""
    values = values.partition("=")[2]
    return Problem(
        override.key_or_group,
        f"several values need -m, which runs a job for each; a list is written [{values}]",
        COMMAND_LINE,
    )


def _exists(group: str, name: str, names: Names) -> bool:
    """A choice may lie in a folder within its group: ``experiment=papers/bahdanau``."""
    parent, _, last = f"{group}/{name}".rpartition("/")
    return last.removesuffix(".yaml") in names.groups.get(parent, [])


def _unknown_choice(name: str, group: str, names: Names) -> str:
    return f"there is no {name!r}; {did_you_mean(name, names.groups.get(group, []))}"


def _check_files(loader: ConfigLoader, override: Override, names: Names) -> list[Problem]:
    """Follow the defaults lists of the chosen files: experiments and recipes choose too."""
    problems: list[Problem] = []
    group = override.key_or_group
    files = [f"{group}/{name}" for name in choices_in(override) if _exists(group, name, names)]
    for path in files:  # grows as files choose further ones
        try:
            opened = open_config(loader, path)
        except ConfigError as error:
            problems += error.problems
            continue
        for chosen_group, name in _chosen_by(opened.content, path) if opened else ():
            if _exists(chosen_group, name, names):
                if f"{chosen_group}/{name}" not in files:
                    files.append(f"{chosen_group}/{name}")
            elif chosen_group in names.groups:
                message = _unknown_choice(name, chosen_group, names)
                problems.append(Problem(chosen_group, message, opened.name if opened else ""))
            else:
                message = f"there is no such group; {did_you_mean(chosen_group, names.groups, show=8)}"
                problems.append(Problem(chosen_group, message, opened.name if opened else ""))
    return problems


def _chosen_by(content: DictConfig, path: str) -> Iterator[tuple[str, str]]:
    """Group and choice of each entry of a defaults list such as ``- override /encoder: rnn``."""
    here = path.rpartition("/")[0]
    for entry in content.get("defaults") or ():
        if not isinstance(entry, DictConfig) or len(entry) != 1:
            continue
        ((key, chosen),) = entry.items_ex(resolve=False)
        *words, group = str(key).split()
        group = group.partition("@")[0]
        group = group[1:] if group.startswith("/") else f"{here}/{group}"
        for name in chosen if isinstance(chosen, Sequence) and not isinstance(chosen, str) else [chosen]:
            if isinstance(name, str) and "${" not in name and "optional" not in words:
                yield group, name
