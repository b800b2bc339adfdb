"""The library ``transformers``, and what it cannot read, told as a user reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from attnbuild.errors import ConfigError

__all__ = ["quietly", "reading", "transformers"]


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


@contextmanager
def reading(path: str | None, option: str) -> Iterator[None]:
    """What goes wrong while a model's files are read is the path's fault.

    Args:
        path: folder or name on the hub.
        option: the config path that holds it.

    Raises:
        ConfigError: there is nothing of the kind, the hub cannot be reached, or the files cannot be used.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ConfigError:
        raise
    # A tensor of another shape is a RuntimeError; a model that needs one more package, an ImportError.
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{path!r} cannot be read ({reason}): name a model of the hub, which must be in reach or in its cache, "
            "or a folder with its files",
            option,
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """The library's warnings are left out."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
