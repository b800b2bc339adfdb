"""Where messages go: the terminal, and log.txt of the run."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from attnbuild.errors import AttnbuildError, CheckpointError, told
from attnbuild.printable import printable
from attnbuild.training.distributed import is_rank

if TYPE_CHECKING:
    from rich.console import Console

    from attnbuild.training.run import RunFolder

__all__ = ["console", "messages"]

#: What Lightning warns of although it is meant to be so here.
_MADE_ON_PURPOSE = (
    ".*does not have many workers.*",  # batches are memory-mapped and collated in microseconds
    ".*The `srun` command is available.*",
    ".*GPU available but not used.*",
    ".*You are using `torch.load` with `weights_only=False`.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*in eval mode at the start of training.*",
    ".*Total length of .* across ranks is zero.*",
    ".*when logging on epoch level in distributed setting.*",  # values are summed over ranks before
    ".*The ``compute`` method of metric .* was called before the ``update`` method.*",  # ranks without a sentence
    ".*LeafSpec.*is deprecated.*",  # between Lightning and torch; nothing that a user could change
)

#: What may end a run without anything being wrong with attnbuild.
_NO_DEFECTS = (AttnbuildError, OSError, KeyboardInterrupt)


@cache
def console() -> Console:
    """The terminal; one for messages and progress, so that they do not write over each other."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def messages(run: RunFolder, rank: int = 0) -> Iterator[None]:
    """Send the messages of attnbuild to the terminal and to the run's log.txt; an error ends that file.

    Args:
        run: the run folder, which exists.
        rank: which process this is; all but the first say warnings only, and write no file.
    """
    logger = logging.getLogger("attnbuild")
    handlers = [_terminal()]
    if rank == 0:
        handlers.append(_file(run))
    before = (logger.level, logger.propagate)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in _MADE_ON_PURPOSE:
                warnings.filterwarnings("ignore", text)
            yield
    except (Exception, KeyboardInterrupt) as error:
        parent_tells = is_rank() and isinstance(error, _NO_DEFECTS)
        if rank == 0 and not parent_tells:
            handlers[-1].handle(_last_words(error))
        raise
    finally:
        logger.level, logger.propagate = before
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


def _terminal() -> logging.Handler:
    if console().is_terminal:
        from rich.logging import RichHandler

        rich = RichHandler(console=console(), show_path=False, markup=False, log_time_format="%H:%M:%S")
        rich.setFormatter(_Printable("%(message)s"))
        return rich
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    return handler


class _Printable(logging.Formatter):
    """Messages tell what files and models say: nothing of it may command a terminal, now or when the log is read."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _file(run: RunFolder) -> logging.Handler:
    if run.log_file.is_symlink():  # a stranger's run folder could have the log go on in any file of the user's
        raise CheckpointError(f"{run.log_file}: is a link to another file, and is not written to: remove it")
    handler = _LogFile(run.log_file, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)-7s %(message)s"))
    return handler


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, without a traceback for each line: what the run needs is told by the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def _last_words(error: BaseException) -> logging.LogRecord:
    """What ended a run, for its file alone: who called prints it. Only a defect, which is ours, has its traceback."""
    if isinstance(error, KeyboardInterrupt):
        return logging.LogRecord(__name__, logging.WARNING, "", 0, "interrupted", None, None)
    if isinstance(error, AttnbuildError | OSError):
        return logging.LogRecord(__name__, logging.ERROR, "", 0, "%s", (told(error),), None)
    trace = (type(error), error, error.__traceback__)
    return logging.LogRecord(__name__, logging.ERROR, "", 0, "a defect of attnbuild ended the run:", None, trace)
