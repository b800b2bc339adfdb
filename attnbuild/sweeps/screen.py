"""All jobs of a sweep on one screen while they run; a line for each event where there is no terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbuild.sweeps.closing import STYLES
from attnbuild.sweeps.status import Status
from attnbuild.training.logs import console

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["Screen", "open_screen", "read_progress"]

#: Jobs shown at once; the others are counted.
_ROWS = 20


def read_progress(folder: Path) -> dict[str, Any]:
    """What a training says of itself in ``progress.json``; empty before it has."""
    try:
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}


class Screen:
    """Shows jobs.

    Args:
        live: the part of the terminal that is drawn again and again; None writes lines.
    """

    def __init__(self, live: Live | None) -> None:
        self.live = live

    def say(self, text: str) -> None:
        """A line that stays."""
        console().print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, jobs: Sequence[tuple[Path, Status]], waiting: int) -> None:
        """Draw the jobs under way and how many wait.

        Args:
            jobs: run folder and status of those under way.
            waiting: how many have not been started.
        """
        if self.live is not None:
            self.live.update(_table(jobs, waiting), refresh=True)


@contextmanager
def open_screen() -> Iterator[Screen]:
    """A live screen on a terminal, and lines elsewhere."""
    if not console().is_terminal:
        yield Screen(None)
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, transient=True) as live:
        yield Screen(live)


def _table(jobs: Sequence[tuple[Path, Status]], waiting: int) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for folder, status in jobs[:_ROWS]:
        progress = read_progress(folder)
        step, most = progress.get("step", 0), progress.get("max_steps") or 1
        table.add_row(
            Text(folder.name, overflow="ellipsis"),
            Text(status.status, STYLES.get(status.status, "")),
            ProgressBar(total=most, completed=step, width=20),
            f"{step}/{most}" if progress else "",
            _values(progress),
        )
    more = len(jobs) - _ROWS
    rest = [f"{more} more under way"] * (more > 0) + [f"{waiting} waiting"] * (waiting > 0)
    if rest:
        table.add_row(Text(", ".join(rest), "dim"))
    return table


def _values(progress: dict[str, Any]) -> str:
    shown = []
    loss = progress.get("values", {}).get("train/loss")
    if loss is not None:
        shown.append(f"loss {loss:.3f}")
    if progress.get("validations"):
        best = max(score for _, score in progress["validations"])
        shown.append(f"{progress['monitor'].partition('/')[2]} {best:.2f}")
    if progress.get("speed"):
        shown.append(f"{progress['speed']:.0f} {progress['unit']}/s")
    return "  ".join(shown)
