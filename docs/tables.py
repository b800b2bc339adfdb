"""Writes the table of attentions in README.md from the registry: ``make tables``; a test holds it."""

from __future__ import annotations

import re
from pathlib import Path

from attnbuild import list_names
from attnbuild.attention import describe

README = Path(__file__).parents[1] / "README.md"
REGION = re.compile(r"(?<=<!-- attentions: made by docs/tables.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
#: The year of the first paper that a summary names, with the bracket that closes after it.
FIRST_YEAR = re.compile(r"\b(19|20)\d\d\b\)?")


def attention_table() -> str:
    """One row a preset: its name, linked to its page, what it is, and the places that it can serve."""
    lines = ["| `attention=` | what it is | self | causal | cross |", "|---|---|:-:|:-:|:-:|"]
    for name in list_names("attention"):
        told = describe(name)
        can = told["capabilities"]
        marks = (can["self_attention"], can["self_attention"] and can["causal"], can["cross_attention"])
        shown = " | ".join("✓" if mark else "" for mark in marks)
        lines.append(f"| [`{name}`](docs/attention/{name}.md) | {_short(told['summary'])} | {shown} |")
    return "\n".join(lines) + "\n"


def _short(summary: str) -> str:
    """What it is and whose it is; the rest is on its page."""
    year = FIRST_YEAR.search(summary)
    if year is None:
        return summary.partition(". ")[0].removesuffix(".")
    short = summary[: year.end()]
    return f"{short})" if short.count("(") > short.count(")") else short


def with_tables(page: str) -> str:
    """The page with its table as it should be."""
    return REGION.sub(lambda _: attention_table(), page)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
