"""Tables of choices: coloured and wrapped on a terminal, plain and unwrapped in a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["console", "print_details", "print_overview", "table"]

#: Wider than any line, so that nothing is wrapped where no one looks at columns.
_UNWRAPPED = 4000


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


def print_overview(entries: Sequence[Mapping[str, Any]]) -> None:
    """One line each: name, summary, capabilities, options with defaults."""
    rows = [
        (
            entry["name"],
            entry["summary"],
            _capabilities(entry),
            " ".join(map(_short, entry.get("options", []))),
        )
        for entry in entries
    ]
    console().print(table(("name", "what it is", "can", "options"), rows))


def print_details(entries: Sequence[Mapping[str, Any]]) -> None:
    """Each with all that is known of it, the help of every option included."""
    out = console()
    for entry in entries:
        out.print(Text(entry["name"], style="bold"), Text(f"  {entry['summary']}"), sep="\n")
        if entry.get("parts"):
            out.print(Text("  parts: " + ", ".join(f"{kind} {name}" for kind, name in entry["parts"].items())))
        if entry.get("capabilities"):
            out.print(Text(f"  can: {_capabilities(entry)}"))
        for capability, reason in entry.get("reasons", {}).items():
            out.print(Text(f"  not {capability}: {reason}"))
        options = entry.get("options", [])
        rows = [(f"  {o['name']}", _default(o), o["type"], o["help"]) for o in options]
        if rows:
            out.print(table(("  option", "default", "values", "meaning"), rows))
        out.print()


def _capabilities(entry: Mapping[str, Any]) -> str:
    """What holds, by name; ``weights: effective`` where there is more to say than yes."""
    return ", ".join(
        name if value is True else f"{name}: {value}"
        for name, value in entry.get("capabilities", {}).items()
        if value is not False
    )


def _short(option: Mapping[str, Any]) -> str:
    return option["name"] if option["required"] else f"{option['name']}={_default(option)}"


def _default(option: Mapping[str, Any]) -> str:
    if option["required"]:
        return "(needed)"
    value = option["default"]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
