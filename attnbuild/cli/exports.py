"""Which other programs' formats can express a model, and what stands in the way: a part of ``attnbuild show``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attnbuild.registry import lookup, names

if TYPE_CHECKING:
    from attnbuild.model import EncoderDecoder

__all__ = ["export_refusals", "print_exports"]


def export_refusals(model: EncoderDecoder) -> dict[str, list[str]]:
    """Format -> what of the model it cannot express; nothing where it can be exported."""
    return {name: lookup("exporter", name)(None).refusals(model) for name in names("exporter")}


def print_exports(refusals: Mapping[str, Sequence[str]]) -> None:
    """One row a format."""
    from attnbuild.cli.tables import console, table

    rows = [(name, "no" if found else "yes", "; ".join(found)) for name, found in refusals.items()]
    console().print(table(("export", "can be written", "why not"), rows))
    print()
