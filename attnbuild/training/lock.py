"""One training at a time in a run folder.

The lock is the system's, on the open file ``run.lock``: it goes with the processes that hold it, however
they die. Ranks inherit it from their parent, so a folder is free only when the last of them is gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from attnbuild.errors import AttnbuildError
from attnbuild.training.run import RunFolder

__all__ = ["FILE", "held", "is_held"]

_log = logging.getLogger(__name__)

FILE = "run.lock"

#: Seconds that ranks may take to notice that their parent is dead.
_PATIENCE = 20.0

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def held(run: RunFolder) -> Iterator[int | None]:
    """Hold a run folder, which exists, for this process and those it hands the lock to.

    Yields:
        The open file, to be kept open in ranks; None where the file system knows no locks.

    Raises:
        AttnbuildError: another process trains there.
    """
    file = os.open(run.path / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _take(file, run):
            yield None
            return
        own = {"host": socket.gethostname(), "pid": os.getpid(), "started": datetime.now(UTC).isoformat("T", "seconds")}
        _write(file, own)
        yield file
    finally:
        os.close(file)


def is_held(run: RunFolder) -> bool:
    """Whether some process trains in the folder now, as far as the file system can tell."""
    try:
        import fcntl

        file = os.open(run.path / FILE, os.O_RDWR | os.O_CLOEXEC)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _take(file: int, run: RunFolder) -> bool:
    """Whether there is a lock now; False where there can be none."""
    try:
        import fcntl
    except ImportError:  # no such thing on Windows
        return False
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = _read(file)
            if _is_alive(holder) or time.monotonic() > deadline:
                raise AttnbuildError(f"{run.path}: {_told(holder)}") from None
            time.sleep(0.1)  # its ranks are about to end
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _log.warning("%s: cannot be locked (%s): let no other process train there", run.path, error.strerror)
            return False


def _told(holder: dict[str, Any]) -> str:
    if not holder:
        who = "another process trains in this folder"
    else:
        who = "process {pid} on {host} trains in this folder since {started}".format_map(holder)
    return f"{who}; wait for its end, or stop it, or choose another folder"


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the holder lives, as far as can be seen from here; one that has not said who it is has just begun."""
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _read(file: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    known = isinstance(holder, dict) and isinstance(holder.get("pid"), int) and {"host", "started"} <= holder.keys()
    return holder if known else {}


def _write(file: int, holder: dict[str, Any]) -> None:
    """Who holds it, for the message of others; a disk that is full must not matter here."""
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, (json.dumps(holder) + "\n").encode(), 0)
    except OSError as error:
        _log.warning("%s: cannot be written: %s", FILE, error.strerror)
