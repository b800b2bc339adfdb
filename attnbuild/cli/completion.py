"""Shell completion: ``eval "$(attnbuild -sc install=bash)"``.

Hydra completes overrides; the shell hands the line over in COMP_LINE. This adds the commands, and
hides the command and the flags from Hydra, which expects overrides only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from attnbuild.cli.commands import COMMANDS
from attnbuild.errors import AttnbuildError

__all__ = ["run"]

#: Keys of a command beside the config's.
_WORDS = {
    "test": ["run="],
    "predict": ["run=", "input=", "output="],
    "show": ["length=", "sentences=", "--json"],
}


def run(words: Sequence[str]) -> int:
    """Install, uninstall or answer a query, in the words of Hydra: ``-sc install=bash``, ``-sc query=bash``."""
    if not any(word.startswith("query=") for word in words):
        _hydra(words)
        return 0
    # A line that is still being typed may be wrong; the shell then offers file names.
    with suppress(AttnbuildError):
        _query(words, os.environ.get("COMP_LINE", ""))
    return 0


def _query(words: Sequence[str], line: str) -> None:
    typed = line.split()[1:]
    begun = "" if line.endswith(" ") or not typed else typed.pop()
    command = next((word for word in typed if not word.startswith("-")), None)
    if command is None:
        print(" ".join(name for name in COMMANDS if name.startswith(begun)))
    elif command == "list":
        _complete_list(typed, begun)
    elif command == "bench":
        typed.remove(command)
        _complete_bench(words, typed, begun)
    elif command == "report":
        print(" ".join(word for word in ("output=",) if word.startswith(begun)))
    elif command in COMMANDS:
        own = [word for word in _WORDS.get(command, []) if word.startswith(begun)]
        if own:
            print(" ".join(own))
        if begun.startswith("-"):
            return  # Hydra completes overrides, and knows no flags
        typed.remove(command)
        _complete_overrides(words, typed, begun)


def _complete_list(typed: Sequence[str], begun: str) -> None:
    from attnbuild.cli.listing import kinds

    if len(typed) == 1 or begun.startswith("-"):
        offered = ["--json"] if begun.startswith("-") else kinds()
        print(" ".join(word for word in offered if word.startswith(begun)))


def _complete_bench(words: Sequence[str], typed: Sequence[str], begun: str) -> None:
    """Its own words; presets, several after commas; the options of those that were named."""
    from attnbuild.cli.arguments import parse_flags
    from attnbuild.cli.bench import word_names
    from attnbuild.cli.compose import open_loader

    if begun.startswith("attention."):
        _complete_overrides(words, [word for word in typed if not word.startswith(tuple(word_names()))], begun)
    elif begun.startswith("attention="):
        flags = parse_flags(typed)
        before, comma, last = begun.removeprefix("attention=").rpartition(",")
        with open_loader(flags.config_dir, flags.overrides) as loader:
            names = [name for name in loader.get_group_options("attention") if name.startswith(last)]
        print(" ".join(f"attention={before}{comma}{name}" for name in names))
    else:
        print(" ".join(word for word in ["attention=", *word_names()] if word.startswith(begun)))


def _complete_overrides(words: Sequence[str], typed: Sequence[str], begun: str) -> None:
    """Let Hydra complete the last word, knowing those before it and the user's folder."""
    from attnbuild.cli.arguments import parse_flags
    from attnbuild.cli.compose import open_loader
    from attnbuild.cli.names import check_names

    own = tuple(word for words in _WORDS.values() for word in words)
    flags = parse_flags([word for word in typed if not word.startswith(own)])
    overrides = flags.overrides
    with open_loader(flags.config_dir, flags.overrides) as loader:
        passed = check_names(loader, overrides, multirun=True)
    folder = [] if flags.config_dir is None else ["--config-dir", flags.config_dir]
    with _line(" ".join(["attnbuild", *passed, begun])):
        _hydra([*words, *folder])


def _hydra(words: Sequence[str]) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from attnbuild.cli.arguments import typed_as
    from attnbuild.cli.compose import CONFIG_NAME, VERSION_BASE
    from attnbuild.cli.search_path import register_sources
    from attnbuild.cli.translate import translated
    from attnbuild.paths import conf_dir

    register_sources()
    GlobalHydra.instance().clear()
    start = hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base=VERSION_BASE)
    with typed_as(words), translated():
        start(_nothing)()


def _nothing(config: object) -> None:
    """Completion runs no job."""


@contextmanager
def _line(text: str) -> Iterator[None]:
    before = os.environ.get("COMP_LINE")
    os.environ["COMP_LINE"] = text
    try:
        yield
    finally:
        if before is None:
            del os.environ["COMP_LINE"]
        else:
            os.environ["COMP_LINE"] = before
