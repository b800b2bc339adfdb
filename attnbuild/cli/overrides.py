"""What the user typed after the flags: ``key=value``, read by Hydra's own grammar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from attnbuild.errors import Problem

__all__ = [
    "COMMAND_LINE",
    "as_typed",
    "choices_in",
    "is_choice",
    "pass_on",
    "plugins_in",
    "read_overrides",
    "search_path_in",
]

#: The origin of a problem that was typed.
COMMAND_LINE = "command line"


def read_overrides(typed: Sequence[str], loader: ConfigLoader | None = None) -> tuple[list[Override], list[Problem]]:
    """Parse every override; those that cannot be read become problems that say where reading stopped.

    Args:
        typed: the overrides.
        loader: lets ``group=glob(*)`` list the choices.
    """
    parser = OverridesParser.create(loader)
    overrides, problems = [], []
    for text in typed:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            problems.append(_unreadable(text, error))
            continue
        override.config_loader = loader
        overrides.append(override)
    return overrides, problems


def _unreadable(text: str, error: HydraException) -> Problem:
    key, equals, _ = text.partition("=")
    if not equals and not key.startswith("~"):
        return Problem(text, "is not an override: they are written key=value", COMMAND_LINE)
    reason = str(error).splitlines()[0]
    column = _column(error)
    if column is None:
        return Problem(key, f"cannot read {text!r}: {reason}", COMMAND_LINE)
    here = f"{text}\n{' ' * column}^"
    return Problem(
        key,
        f"cannot read the value at column {column + 1}: {reason}; quote a value that has "
        f"special characters: '{key}=\"...\"'\n{here}",
        COMMAND_LINE,
    )


def _column(error: HydraException) -> int | None:
    """Where the parser stopped, from 0; None when it does not say."""
    cause = error.__cause__
    token = getattr(cause, "offendingToken", None)
    return getattr(token, "start", None) if token is not None else getattr(cause, "startIndex", None)


def search_path_in(typed: Sequence[str]) -> list[str]:
    """The folders of ``hydra.searchpath=[...]``, where it was typed."""
    return _list_in(typed, "hydra.searchpath")


def plugins_in(typed: Sequence[str]) -> list[str]:
    """The modules of ``plugins=[...]``, where it was typed."""
    return _list_in(typed, "plugins")


def _list_in(typed: Sequence[str], key: str) -> list[str]:
    overrides, _ = read_overrides([text for text in typed if text.lstrip("+").startswith(f"{key}=")])
    values = [override.value() for override in overrides if not override.is_sweep_override()]
    return [str(item) for value in values if isinstance(value, list) for item in value]


def is_choice(override: Override, groups: Iterable[str]) -> bool:
    """Whether it chooses from a group; ``attention={window: 4}`` sets options instead."""
    if override.key_or_group not in groups:
        return False
    return override.is_sweep_override() or not isinstance(override.value(), dict)


def choices_in(override: Override) -> list[str]:
    """The names that a choice chooses: one, those of a list, or each that is swept over."""
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            return []
        return [str(name).strip("'\"") for name in override.sweep_string_iterator()]
    value = None if override.is_delete() else override.value()
    return [str(name) for name in (value if isinstance(value, list) else [value]) if name is not None]


def pass_on(override: Override, groups: Iterable[str], in_defaults: Iterable[str]) -> str:
    """The override as Hydra shall read it.

    Options go on as ``++key=value``: Hydra then sets whatever key it is, and our own check judges all
    of them together. Choices stay plain, or get ``+`` where no defaults list has the group yet; the
    choice of nothing, ``experiment=null``, is Hydra's ``~experiment``.
    """
    text = override.input_line or ""
    if override.is_hydra_override() or override.is_delete():
        return text
    bare = text.lstrip("+")
    if not is_choice(override, groups):
        return f"++{bare}"
    if not override.is_sweep_override() and override.value() is None:
        return f"~{override.key_or_group}"
    return bare if override.key_or_group in in_defaults else f"+{bare}"


def as_typed(overrides: Iterable[str]) -> list[str]:
    """Undo ``pass_on`` for the record of a run: no reader should see our ``++``."""
    return [text.lstrip("+") for text in overrides]
