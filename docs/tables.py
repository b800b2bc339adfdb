"""Writes the table of attentions in README.md from the registry: ``make tables``; a test holds it."""

from __future__ import annotations

import re
from pathlib import Path

from attnbuild import list_names
from attnbuild.attention import describe

README = Path(__file__).parents[1] / "README.md"
REGION = re.compile(r"(?<=<!-- attentions: made by docs/tables.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def attention_table() -> str:
    """One row a preset: its name, what it is, and the places that it can serve."""
    lines = ["| `attention=` | what it is | self | causal | cross |", "|---|---|:-:|:-:|:-:|"]
    for name in list_names("attention"):
        told = describe(name)
        can = told["capabilities"]
        marks = (can["self_attention"], can["self_attention"] and can["causal"], can["cross_attention"])
        lines.append(f"| `{name}` | {told['summary']} | {' | '.join('✓' if mark else '' for mark in marks)} |")
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """The page with its table as it should be."""
    return REGION.sub(lambda _: attention_table(), page)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
