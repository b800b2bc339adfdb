"""``attnbuild COMMAND ...``: find the command, run it, turn what goes wrong into a line and an exit code.

Exit codes: 0 done; 2 the config or the command line is wrong; 3 out of memory; 1 anything else the user
can mend; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attnbuild.cli.commands import COMMANDS
from attnbuild.errors import INTERRUPTED, AttnbuildError, ConfigError, did_you_mean, exit_code_of, told
from attnbuild.training.world import current, require_one

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; may be called again and again in one process.

    Args:
        argv: the words after the program's name; None: those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with _hydra_raises() as show_traceback:
        try:
            return _dispatch(words)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except SystemExit as leaving:
            return exit_code_of(leaving)
        except BrokenPipeError:  # the reader had enough: attnbuild list | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return AttnbuildError.exit_code
        except (AttnbuildError, OSError) as error:
            return _report(error, show_traceback)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_usage())
        return ConfigError.exit_code
    if words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"attnbuild {_version()}")
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        from attnbuild.cli.completion import run

        return run(words)
    name, words = _split(words)
    if name != "train":
        require_one(current())
    module, _ = COMMANDS[name]
    return importlib.import_module(module).run(words)


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The command and the words without it; flags such as ``-m`` may come before it."""
    for position, word in enumerate(words):
        if not word.startswith("-"):
            if word not in COMMANDS:
                raise ConfigError(f"unknown command {word!r}; {did_you_mean(word, COMMANDS)}")
            return word, words[:position] + words[position + 1 :]
    raise ConfigError(f"no command given; one of: {', '.join(COMMANDS)}")


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "attnbuild builds attention models from configuration and trains them.",
            "",
            "usage: attnbuild COMMAND [WORDS ...]",
            "",
            *lines,
            "",
            "attnbuild train --help shows what can be overridden; --version the version.",
        ]
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("attnbuild")
    except PackageNotFoundError:
        return "(not installed)"


def _report(error: AttnbuildError | OSError, show_traceback: bool) -> int:
    if show_traceback:
        traceback.print_exception(error)
    else:
        print(told(error), file=sys.stderr)
    return exit_code_of(error)


@contextmanager
def _hydra_raises() -> Iterator[bool]:
    """Let Hydra hand its exceptions on instead of printing them; yields whether the user asked for tracebacks.

    HYDRA_FULL_ERROR=1 is Hydra's own switch for that. A user who sets it sees tracebacks, as ever.
    """
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield before == "1"
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
