"""The words of a command line, split into Hydra's flags and overrides, in any order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from attnbuild.errors import ConfigError

__all__ = ["flag_words", "parse_flags", "refuse", "typed_as"]

#: Flags that would replace the config that every command here relies on.
_REFUSED = ("config_path", "config_name", "experimental_rerun")

_MODES = {
    "run": "--run",
    "multirun": "--multirun",
    "cfg": "--cfg",
    "info": "--info",
    "shell_completion": "--shell-completion",
}


def parse_flags(words: Sequence[str]) -> argparse.Namespace:
    """Hydra's flags and, as ``overrides``, everything else. Flags may stand anywhere: ``a=1 -m b=1,2``.

    Raises:
        ConfigError: an unknown flag, one without its value, or two that exclude each other.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args(list(words))
    modes = [flag for name, flag in _MODES.items() if getattr(flags, name)]
    if len(modes) > 1:
        raise ConfigError(f"only one of {', '.join(modes)} can be given")
    for name in _REFUSED:
        if getattr(flags, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is not supported; your own configs go into a folder: --config-dir DIR")
    if flags.resolve and not (flags.cfg or flags.help):
        raise ConfigError("--resolve goes with --cfg: --cfg job --resolve")
    return flags


def refuse(message: str) -> NoReturn:
    """What an argument parser does instead of printing its usage and leaving."""
    raise ConfigError(f"{message}; see --help")


def flag_words(flags: argparse.Namespace) -> list[str]:
    """The flags as words again, for Hydra's own parser; without the overrides."""
    words = []
    for name, value in vars(flags).items():
        if name != "overrides" and value not in (None, False):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    return words


@contextmanager
def typed_as(words: Sequence[str]) -> Iterator[None]:
    """Make ``sys.argv`` what Hydra shall read, for as long as it runs."""
    before = sys.argv
    sys.argv = ["attnbuild", *words]
    try:
        yield
    finally:
        sys.argv = before
