"""``python -m attnbuild.training.job FOLDER``: train what the config of a run folder says.

A run that has a checkpoint goes on from it, so a job that was killed or sent back to its queue is
simply started again. Nothing is composed here, and nothing typed is read: the folder is all there is.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

from attnbuild.errors import AttnbuildError, ConfigError, exit_code_of, told
from attnbuild.training.distributed import watch_parent
from attnbuild.training.run import RunFolder

__all__ = ["TIED", "main", "told_code", "train_folder"]

#: Set in the environment of a job that shall not outlive who started it: it then saves and stops.
TIED = "ATTNBUILD_TIED_TO_PARENT"


def train_folder(folder: str) -> None:
    """Train a run folder, from the beginning or from where it stopped.

    Raises:
        AttnbuildError: the config, the data or a checkpoint cannot be used.
        KeyboardInterrupt: it was asked to stop.
    """
    from attnbuild.training.fit import train

    run = RunFolder.open(folder)
    config = run.read_config()
    if run.last_checkpoint.is_file():
        train({**config, "resume": str(run.path)}, run, [])
    else:
        train(config, run, run.read_overrides())


def told_code(work: Callable[[], None]) -> int:
    """Do work, say what ends it early, and give the exit code. A defect of attnbuild goes its way."""
    try:
        work()
    except (AttnbuildError, OSError, KeyboardInterrupt) as error:
        print("interrupted" if isinstance(error, KeyboardInterrupt) else told(error), file=sys.stderr)
        return exit_code_of(error)
    return 0


def main(words: Sequence[str]) -> int:
    """The program; its exit code says how it ended."""

    def work() -> None:
        if len(words) != 1:
            raise ConfigError("usage: python -m attnbuild.training.job FOLDER")
        if os.environ.pop(TIED, None):
            watch_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
        train_folder(words[0])

    return told_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
