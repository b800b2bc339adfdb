"""What one of several training processes runs: ``python -m attnbuild.training.rank RUN_DIR``.

The environment says which rank it is. Ranks that attnbuild started read all else from the run folder. Of
those that srun or torchrun started, rank 0 trains the folder as ``attnbuild.training.job`` does, from the
beginning or from where it stopped, and the others take from it what they need.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from attnbuild.errors import INTERRUPTED, AttnbuildError, ConfigError
from attnbuild.training import distributed
from attnbuild.training.world import World, current

if TYPE_CHECKING:
    from attnbuild.training.handover import Handed

__all__ = ["follow", "main"]


def main(argv: list[str]) -> int:
    """Train as one rank; the exit code."""
    world = current()
    if world.started_by == "attnbuild":
        distributed.watch_parent()  # before the imports that take seconds, in which it may be killed as well
        return _started_by_parent(argv[0])
    if world.rank:
        return follow(world)
    return _lead(world, argv)


def follow(world: World) -> int:
    """Train as one of the processes that torchrun or srun started and that rank 0 leads; the exit code.

    Rank 0 says how it ended: this process is silent, unless it finds a defect.
    """
    from attnbuild.training import handover
    from attnbuild.training.signals import sigterm_as_interrupt

    try:
        with sigterm_as_interrupt():
            handed = handover.follow(world)
            with handed.reported():
                _train(handed)
    except handover.DismissedError as dismissed:
        return dismissed.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except AttnbuildError as error:
        return error.exit_code
    except BaseException:  # a defect: the traceback is for its author
        traceback.print_exc()
        return AttnbuildError.exit_code
    return 0


def _train(handed: Handed) -> None:
    from attnbuild.training.fit import train_rank

    try:
        train_rank(handed.run, handed.config, handed.typed)
    except KeyboardInterrupt:
        handed.after_lead()
        raise


def _lead(world: World, argv: list[str]) -> int:
    """Train a run folder as rank 0, or alone."""
    from attnbuild.training.handover import lead
    from attnbuild.training.job import told_code, train_folder
    from attnbuild.training.signals import sigterm_as_interrupt

    def work() -> None:
        with sigterm_as_interrupt(), lead(world):
            if len(argv) != 1:
                raise ConfigError("usage: python -m attnbuild.training.rank FOLDER")
            train_folder(argv[0])

    try:
        return told_code(work)
    except BaseException:
        traceback.print_exc()
        return AttnbuildError.exit_code


def _started_by_parent(folder: str) -> int:
    from attnbuild.training.fit import train_rank
    from attnbuild.training.run import RunFolder

    try:
        train_rank(RunFolder.open(folder))
    except KeyboardInterrupt:
        return INTERRUPTED
    except AttnbuildError as error:  # the parent prints it
        distributed.report_error(error)
        return error.exit_code
    except BaseException as error:  # a defect: the traceback is for its author
        distributed.report_error(error)
        traceback.print_exc()
        return AttnbuildError.exit_code
    return 0


if __name__ == "__main__":
    from attnbuild.training.handover import leave

    leave(main(sys.argv[1:]))
