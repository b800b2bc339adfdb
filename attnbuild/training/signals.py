"""Ctrl-C, SIGTERM and SIGUSR1: all leave as KeyboardInterrupt, and nothing swallows it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupts_kept", "sigterm_as_interrupt"]


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let Ctrl-C leave a Trainer as KeyboardInterrupt.

    Lightning turns it into exit code 1 and leaves the process deaf to the next Ctrl-C.
    """
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, and SIGUSR1 of a cluster, end a run as Ctrl-C does, so that it says so in its summary."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
