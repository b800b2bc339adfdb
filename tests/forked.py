"""Jobs of a sweep as forks of the test's own process: trained for real, without the seconds that a start takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnbuild.sweeps.job import OUTPUT, started
from attnbuild.training import job

__all__ = ["Forked", "fork_job"]


class Forked:
    """A fork, with what a launcher asks of a process.

    Args:
        pid: its number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_job(folder: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Forked:
    """Stands for ``attnbuild.sweeps.job.start``."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = job.main([str(folder)])
        finally:
            os._exit(code)
    started(folder, pid)
    return Forked(pid)
