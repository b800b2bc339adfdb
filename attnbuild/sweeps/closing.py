"""What a sweep says at its end: all of its jobs in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbuild.sweeps.status import Status

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["closing_table", "counted"]

#: How a status is shown on a terminal.
STYLES = {
    "ok": "green",
    "pruned": "cyan",
    "running": "bold",
    "interrupted": "yellow",
    "failed": "red",
    "oom": "red",
    "killed": "red",
    "invalid": "red",
}


def closing_table(statuses: Sequence[Status], again: Sequence[int] = ()) -> Table:
    """One row a job.

    Args:
        statuses: of all jobs, in the order of their numbers.
        again: numbers of the jobs that an earlier call had finished.
    """
    from rich.table import Table
    from rich.text import Text

    monitor = next((str(status.figures["monitor"]) for status in statuses if status.figures.get("monitor")), "score")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("job", "status", monitor, "minutes", "what"):
        table.add_column(heading, justify="right" if heading in (monitor, "minutes") else "left", overflow="fold")
    for status in statuses:
        shown = f"{status.status} (before)" if status.number in again else status.status
        score = status.figures.get("score")
        table.add_row(
            str(status.number),
            Text(shown, STYLES.get(status.status, "")),
            "" if score is None else f"{score:.3f}",
            f"{status.seconds / 60:.1f}" if status.seconds else "",
            Text("  ".join(status.overrides) + (f"\n{status.reason}" if status.reason else "")),
        )
    return table


def counted(statuses: Sequence[Status]) -> str:
    """How many jobs there are of each status: ``3 ok, 1 failed``."""
    names = [status.status for status in statuses]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))
