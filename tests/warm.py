"""Commands in processes that need not import what all of them import: forks of one that has.

A start of Python with torch and Lightning takes seconds, and most tests of the command line do little else.
Each command still is a process of its own, with its own working directory, environment, streams and signals.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

__all__ = ["Command"]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["attnbuild.training.fit", "attnbuild.cli.train", "attnbuild.data.corpus", "torch.utils.tensorboard", "sacrebleu"]
)


class Command:
    """A command that runs; what of ``subprocess.Popen`` the tests need.

    Args:
        words: after the program's name.
        cwd: its working directory.
        environment: all of its variables.
        input: the file that it reads from.
        output: the file that it writes to.
        errors: the file that errors go to; it may be the same.
    """

    def __init__(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], input: Path, output: Path, errors: Path
    ) -> None:
        streams = (str(input), str(output), str(errors))
        self._process: ForkServerProcess = _server.Process(
            target=_carry_out, args=(list(words), str(cwd), dict(environment), streams)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("attnbuild", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _carry_out(words: list[str], cwd: str, environment: dict[str, str], streams: tuple[str, str, str]) -> None:
    """In the fork: become the command."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, _WRITE, _WRITE), strict=True)):
        os.dup2(os.open(path, flags, 0o644), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, 1, encoding="utf-8") for number, mode in enumerate("rww")
    )
    sys.argv = ["attnbuild", *words]
    sys.path.insert(0, "")

    from attnbuild.cli.main import main

    code = main()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_WRITE = os.O_WRONLY | os.O_CREAT | os.O_APPEND
