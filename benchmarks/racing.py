"""Processes that take turns: whatever else the machine does falls on all of them."""

from __future__ import annotations

import atexit
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["ask", "start"]

#: Seconds before a turn in which the threads of the last one fall asleep.
REST = 0.4


def start(serve: Callable[..., None], *arguments: Any) -> Connection:
    """A process of its own, since threads that wait for work, spinning, would slow the others down.

    Args:
        serve: called there with the arguments and the other end of the line.
        arguments: can be pickled.

    Returns:
        The line to it.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(*arguments, theirs), daemon=True)
    process.start()
    # Daemons are ended by SIGTERM, which a training takes for a wish to stop after its update: it waits for its turn.
    atexit.register(process.kill)
    return ours


def ask(line: Connection, *told: Any, rest: float = REST) -> Any:
    """One turn: what it answers. Processes of one thread need no rest."""
    time.sleep(rest)
    line.send(told)
    return line.recv()
