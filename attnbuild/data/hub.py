"""The library ``transformers``, and what it cannot read, told as a user reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from attnbuild.errors import AttnbuildError, ConfigError

__all__ = ["quietly", "reading", "reason_of", "require_in_reach", "transformers"]

#: Seconds that the hub has for its answer.
_PATIENCE = 10.0


def transformers(option: str) -> ModuleType:
    """The library.

    Args:
        option: the config path of what needs it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        message = "pretrained models need the package transformers: pip install 'attnbuild[hf]'"
        raise ConfigError(message, option) from error
    return transformers


def require_in_reach(path: str | None, option: str) -> None:
    """Ask the hub once for a model that is neither a folder nor in the cache: the library would ask for half a minute.

    Args:
        path: folder, or name on the hub.
        option: the config path that holds it.

    Raises:
        ConfigError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    if path is None or Path(path).is_dir():
        return
    with reading(path, option):
        if isinstance(try_to_load_from_cache(path, "config.json"), str):
            return
        try:
            HfApi().model_info(path, timeout=_PATIENCE)
        except Exception as error:  # whatever the library's transport raises
            raise OSError(error) from error


@contextmanager
def reading(path: str | None, option: str) -> Iterator[None]:
    """What goes wrong while a model's files are read is the path's fault.

    Args:
        path: folder or name on the hub.
        option: the config path that holds it.

    Raises:
        ConfigError: there is nothing of the kind, the hub cannot be reached, or the files cannot be used.
    """
    try:
        yield
    except AttnbuildError:
        raise
    # The library's models raise whatever they come upon: a tensor of another shape is a RuntimeError, a package that
    # is missing an ImportError, an input that the model needs besides a TypeError.
    except Exception as error:
        raise ConfigError(
            f"{path!r} cannot be read ({reason_of(error)}): name a model of the hub, which must be in reach or in its "
            "cache, or a folder with its files",
            option,
        ) from error


def reason_of(error: Exception) -> str:
    """The first line of what the library says of an error, or the error's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quietly() -> Iterator[None]:
    """The library's warnings and progress bars are left out."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
