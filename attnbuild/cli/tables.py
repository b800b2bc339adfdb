"""Tables of choices: coloured and wrapped on a terminal, plain and unwrapped in a pipe or a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

__all__ = ["console", "print_details", "print_kinds", "print_overview", "table"]

#: Wider than any line, so that nothing is wrapped where no one looks at columns.
_UNWRAPPED = 4000

#: What a list of names is wrapped to there.
_PIPED = 100

#: The capabilities that choices differ in most, and how an overview calls them.
_SHORT = {"self_attention": "self", "causal": "causal", "cross_attention": "cross", "linear_memory": "linear"}

#: How wide they are on a terminal: two lines, beside a summary of two or three.
_CAN = 14


def console() -> Console:
    """Standard output."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_UNWRAPPED, color_system=None)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without lines; the first column is what a reader looks for. Empty columns are left out."""
    kept_rows = [[str(value) for value in row] for row in rows]
    kept = [number for number in range(len(columns)) if any(row[number] for row in kept_rows)]
    made = Table(box=box.SIMPLE_HEAD if console().is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0))
    for number in kept:
        made.add_column(columns[number], style="bold" if number == 0 else "", no_wrap=number == 0)
    for row in kept_rows:
        made.add_row(*(Text(row[number]) for number in kept))
    return made


def print_kinds(kinds: Mapping[str, Sequence[str]], hint: str) -> None:
    """Each kind with its names. In a pipe every line begins with its kind, so that a search finds both.

    Args:
        kinds: kind -> what there is of it.
        hint: how to see more, for people.
    """
    out = console()
    rows = [(kind, ", ".join(names)) for kind, names in kinds.items()]
    if not out.is_terminal:
        room = _PIPED - max(map(len, kinds)) - 2
        rows = [(kind, line) for kind, names in rows for line in textwrap.wrap(names, room, break_on_hyphens=False)]
    _print(out, table(("kind", "names"), rows))
    _print_hint(out, hint)


def print_overview(entries: Sequence[Mapping[str, Any]], hint: str) -> None:
    """Name, what it can do where choices differ most, summary; one line each in a pipe.

    Args:
        entries: from ``listing.entries``.
        hint: how to see more, for people.
    """
    out = console()
    can = [", ".join(_SHORT[name] for name in _SHORT if entry.get("capabilities", {}).get(name)) for entry in entries]
    rows = [(entry["name"], able, entry["summary"]) for entry, able in zip(entries, can, strict=True)]
    made = table(("name", "can", "what it is"), rows)
    if any(can) and out.is_terminal:
        made.columns[1].max_width = _CAN
    _print(out, made)
    if any(entry.get("options") for entry in entries):
        _print_hint(out, hint)


def _print(out: Console, made: Table) -> None:
    """A table; in a pipe without the blanks that fill its last column."""
    if out.is_terminal:
        out.print(made)
        return
    with out.capture() as printed:
        out.print(made)
    for line in printed.get().splitlines():
        print(line.rstrip())


def _print_hint(out: Console, hint: str) -> None:
    """A line that people may want and programs do not."""
    if out.is_terminal:
        out.print(Text(hint, style="dim"))


def print_details(entries: Sequence[Mapping[str, Any]]) -> None:
    """Each with all that is known of it, the help of every option included."""
    out = console()
    for entry in entries:
        lines = [entry["summary"]]
        if entry.get("parts"):
            lines.append("parts: " + ", ".join(f"{kind} {name}" for kind, name in entry["parts"].items()))
        if entry.get("capabilities"):
            lines.append(f"can: {_capabilities(entry)}")
        lines += [f"not {capability}: {reason}" for capability, reason in entry.get("reasons", {}).items()]
        out.print(Text(entry["name"], style="bold"))
        for line in lines:
            out.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
        options = entry.get("options", [])
        rows = [(f"  {o['name']}", _default(o), o["type"], o["help"]) for o in options]
        if rows:
            _print(out, table(("  option", "default", "values", "meaning"), rows))
        print()


def _capabilities(entry: Mapping[str, Any]) -> str:
    """What holds, by name; ``weights: effective`` where there is more to say than yes."""
    return ", ".join(
        name if value is True else f"{name}: {value}"
        for name, value in entry.get("capabilities", {}).items()
        if value is not False
    )


def _default(option: Mapping[str, Any]) -> str:
    if option["required"]:
        return "(needed)"
    value = option["default"]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
