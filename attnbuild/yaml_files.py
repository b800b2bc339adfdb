"""YAML files of others: read without running, without unfolding, and without filling the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from attnbuild.plain import DEEPEST, require_plain, weight
from attnbuild.printable import printable

__all__ = ["MOST_BYTES", "check_yaml", "read_yaml"]

#: A config has some 5 kB; one that carries a pretrained model's own config may have a hundred times that.
MOST_BYTES = 4 << 20

#: Values in a file, aliases followed.
_MOST_VALUES = 200_000

# The loader in C, where there is one, is ten times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """What a file holds: plain values and nothing else. Tags that would make objects are refused.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, too large, or holds more than plain values; the message says where.
    """
    text = _text(path)
    try:
        _require_tame(text)
        value = yaml.load(text, _LOADER)
    except (yaml.YAMLError, ArithmeticError, TypeError) as error:
        raise ValueError(printable(str(error))) from error
    require_plain(value, most=_MOST_VALUES)
    return value


def check_yaml(path: Path) -> None:
    """Refuse a file that would unfold, or nest, without end, before another reader takes it.

    Raises:
        OSError: it cannot be read.
        ValueError: what is wrong.
        yaml.YAMLError: it is no YAML.
    """
    _require_tame(_text(path))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MB, which no config has")
    return data.decode("utf-8")


def _require_tame(text: str) -> None:
    """Count what the text unfolds to and how deep it nests, from its events alone: nothing is built.

    Merge keys (``<<``) copy what they name, so the count must come before the values are made.

    Raises:
        ValueError: too much.
        yaml.YAMLError: it is no YAML.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor, values so far
    for event in yaml.parse(text, _LOADER):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((anchor, 1))
            added = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, added = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, added = None, sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            added = weight(event.value)
        else:
            continue
        if anchor is not None and not isinstance(event, yaml.CollectionStartEvent):
            sizes[anchor] = added
        around, so_far = open_nodes[-1]
        open_nodes[-1] = (around, so_far + added)
        if so_far + added > _MOST_VALUES:
            raise ValueError(f"it unfolds to more than {_MOST_VALUES:,} values")
        if len(open_nodes) > DEEPEST:
            raise ValueError(f"it is nested deeper than {DEEPEST} levels")
