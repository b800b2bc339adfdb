"""Hydra's, OmegaConf's and YAML's errors as ConfigError: the same face as our own.

Only what the user can act on is kept: which file, which key, which names there are. Hydra's advice to
prefix a key with ``+`` is dropped: it hides typing errors, and our own check judges every key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from attnbuild.errors import ConfigError, Problem, did_you_mean

__all__ = ["translated"]

#: Lines of Hydra's messages that advise what would be wrong here, or repeat the search path.
_NOISE = (
    "To append to your",
    "Or add a second +",
    "Either remove + prefix",
    "Config search path",
    "See https:",
)


@contextmanager
def translated(*also: type[Exception]) -> Iterator[None]:
    """Run Hydra and raise ConfigError for what it raises about configs.

    Args:
        also: further errors that can only mean a wrong config, where nothing but Hydra runs.
    """
    about_configs: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, YAMLError, *also)
    try:
        yield
    except MissingConfigException as error:
        raise ConfigError([_missing(error)]) from error
    except OverrideParseException as error:
        raise ConfigError([Problem(error.override, _first_lines(error))]) from error
    except MarkedYAMLError as error:
        raise ConfigError([_malformed(error)]) from error
    except about_configs as error:
        raise ConfigError([_composition(error)]) from error


def _missing(error: MissingConfigException) -> Problem:
    wanted = (error.missing_cfg_file or "").removesuffix(".yaml")
    holder = str(error).partition("'")[2].partition("'")[0] if str(error).startswith("In '") else ""
    origin = f"{holder}.yaml" if holder and holder != wanted else ""
    group, _, name = wanted.rpartition("/")
    if not group:
        return Problem(wanted, _first_lines(error), origin)
    return Problem(group, f"there is no {name!r} in this group; {did_you_mean(name, error.options or [])}", origin)


def _malformed(error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = f"{mark.name}:{mark.line + 1}:{mark.column + 1}" if mark else "YAML"
    return Problem(where, f"not valid YAML: {error.problem or error.context}")


def _composition(error: BaseException) -> Problem:
    """The innermost error knows the key; Hydra's outer one knows the file."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None) or ""
    reasons = dict.fromkeys(text for text in (_first_lines(error), _first_lines(cause)) if text)
    return Problem(str(key), "\n".join(reasons))


def _first_lines(error: BaseException) -> str:
    """An error's message without advice and without OmegaConf's inner names."""
    kept = []
    for line in str(error).splitlines():
        if line.strip().startswith(_NOISE):
            break
        if line.strip() and not line.strip().startswith(("full_key:", "object_type=", "reference_type=")):
            kept.append(line.rstrip())
    return "\n".join(kept)
