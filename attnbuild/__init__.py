"""attnbuild: build attention models from configuration and train them.

The names below are the public Python interface. They are loaded when first used, so that importing
the package (which the command line does at every key press of a completion) costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attnbuild.errors import AttnbuildError, CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from attnbuild.attention import build_attention
    from attnbuild.choices import add_choice
    from attnbuild.names import list_names
    from attnbuild.registry import register
    from attnbuild.training.checkpoint import load

__all__ = [
    "AttnbuildError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "add_choice",
    "build_attention",
    "list_names",
    "load",
    "register",
]
__version__ = "0.1.0"

_HOMES = {
    "add_choice": "attnbuild.choices",
    "build_attention": "attnbuild.attention",
    "list_names": "attnbuild.names",
    "load": "attnbuild.training.checkpoint",
    "register": "attnbuild.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attnbuild' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
