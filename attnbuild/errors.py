"""What a user reads instead of a traceback.

Every mistake a user can make ends in one of these; the command line prints the message and exits
with ``exit_code``. Anything else that escapes is a defect of attnbuild and keeps its traceback.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attnbuild.printable import printable

__all__ = [
    "INTERRUPTED",
    "AttnbuildError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "OutOfMemory",
    "Problem",
    "did_you_mean",
    "exit_code_of",
    "listed",
    "nearest_divisors",
    "told",
]


#: How wide lists of names are: with a key before them, they stay within a hundred columns.
_WIDTH = 72


class AttnbuildError(Exception):
    """Base of all errors that are the input's fault, not the program's."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config.

    Attributes:
        path: dotted path of the key, as the user would type it: ``attention.window``.
        message: what is wrong, with the value, what was expected and what to do instead.
        origin: the last file that holds the key, or ``command line``; empty when called from Python.
    """

    path: str
    message: str
    origin: str = ""

    def __str__(self) -> str:
        origin = f"({self.origin}) " if self.origin else ""
        return f"{self.path}: {origin}{self.message}"


class ConfigError(AttnbuildError, ValueError):
    """The configuration cannot work. Holds every problem found, not only the first.

    Args:
        problems: the problems, or one message where no path is known.
        path: the path that a single message concerns.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str, path: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(path, problems)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(_render(self.problems))


class DataError(AttnbuildError):
    """Data cannot be read or used; the message names file and line."""


class CheckpointError(AttnbuildError):
    """A run folder or checkpoint is missing, damaged or does not fit."""


class OutOfMemory(AttnbuildError):  # noqa: N818 - it is called so everywhere
    """A batch did not fit into memory; the message names it and the setting to lower."""

    exit_code = 3


def _render(problems: Sequence[Problem]) -> str:
    if len(problems) == 1 and not problems[0].path:
        return problems[0].message
    head = "1 problem in the config:" if len(problems) == 1 else f"{len(problems)} problems in the config:"
    width = max(len(problem.path) for problem in problems)
    lines = []
    for problem in problems:
        origin = f"({problem.origin}) " if problem.origin else ""
        message = f"{origin}{problem.message}".replace("\n", "\n" + " " * (width + 4))
        lines.append(f"  {problem.path.ljust(width)}  {message}")
    return "\n".join([head, *lines])


def told(error: AttnbuildError | OSError) -> str:
    """What a user reads of an error, on the terminal and in the log of a run."""
    if isinstance(error, OSError) and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    return printable(str(error))


#: The exit code of what was ended by Ctrl-C, or asked to end.
INTERRUPTED = 130


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that this ends."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit):  # Hydra's way to end after --help and the like
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return error.exit_code if isinstance(error, AttnbuildError) else AttnbuildError.exit_code


def did_you_mean(name: str, known: Iterable[str], show: int = 0) -> str:
    """A suffix for messages about an unknown name: the nearest known names, or else what there is.

    Args:
        name: what the user wrote.
        known: the valid names; many of them come in lines of their own, after those that are least unlike.
        show: list up to this many of the valid names when none is near; 0 lists all.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(candidate) for candidate in near)}?"
    if not known:
        return "there are none"
    if show and show < len(known):
        return f"one of: {', '.join(known[:show])}, ..."
    least_unlike = difflib.get_close_matches(str(name), known, n=3, cutoff=0.3)
    closest = f"the closest: {', '.join(map(repr, least_unlike))}; " if least_unlike and _is_long(known) else ""
    return f"{closest}one of:{listed(known)}"


def listed(names: Sequence[str]) -> str:
    """Names after a colon: on the same line where they are few, on lines of their own below it otherwise."""
    if not _is_long(names):
        return f" {', '.join(names)}"
    return "\n" + textwrap.fill(", ".join(names), _WIDTH, break_on_hyphens=False)


def nearest_divisors(number: int, whole: int) -> str:
    """For messages about a number that must divide another: the divisors below and above it."""
    divisors = [divisor for divisor in range(1, whole + 1) if whole % divisor == 0]
    near = [*[divisor for divisor in divisors if divisor < number][-1:], *[d for d in divisors if d > number][:1]]
    return " or ".join(map(str, near))


def _is_long(names: Sequence[str]) -> bool:
    return len(", ".join(names)) > _WIDTH
