"""What ``test`` and ``predict`` read: words such as ``run=DIR``, and changes to the config of that run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbuild.cli.arguments import parse_flags
from attnbuild.cli.compose import compose, open_loader, resolve_alone
from attnbuild.cli.names import check_names
from attnbuild.errors import ConfigError

__all__ = ["read_changes"]


def read_changes(
    words: Sequence[str], needed: Sequence[str], optional: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Split a command line into the words that the command needs and changes to the run's config.

    Args:
        words: ``["run=outputs/...", "search.beam=10", "data=text"]``.
        needed: the keys of the words that must be there. Their values are taken as they are, so a path
            may have any character.
        optional: other such words, with their values where they are not given.

    Returns:
        The needed and optional words by key, and the changes as nested sections. A group that was chosen is there with
        its ``type``, and so replaces the section of the run.

    Raises:
        ConfigError: a word is missing, or an override names what does not exist.
    """
    flags = parse_flags(words)
    if flags.multirun:
        raise ConfigError("this command works on one run; -m is for train")
    own = {*needed, *(optional or {})}
    given = dict(optional or {})
    given.update(word.split("=", 1) for word in flags.overrides if word.partition("=")[0] in own and "=" in word)
    missing = [f"{key}=..." for key in needed if not given.get(key)]
    if missing:
        raise ConfigError(f"missing: {', '.join(missing)}")
    overrides = [word for word in flags.overrides if word.partition("=")[0] not in own]
    with open_loader(flags.config_dir, flags.overrides) as loader:
        passed = check_names(loader, overrides, alone=True)
        return given, resolve_alone(compose(loader, passed, name=None))
