"""A disk that is full, over its quota or suddenly read-only: what could not be written, and what stands."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from attnbuild.errors import AttnbuildError
from attnbuild.training.run import RunFolder

__all__ = ["disk_error", "remove_drafts", "told_of_disk"]

#: The disk's fault, which somebody can mend while the run waits.
_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)

#: How temporary files are called that will take another name when they are complete.
_DRAFT = re.compile(r"\.(?P<name>.+)-[a-z0-9_]{8}")

#: Written by whoever started the run, at any time.
_NOT_OURS = ("status.json",)


def disk_error(error: BaseException | None) -> OSError | None:
    """What the disk said, if that is what an error comes from. torch wraps it in errors of its own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def told_of_disk(error: OSError, run: RunFolder) -> AttnbuildError:
    """The same for a user, with what stands of the run."""
    what = f"{error.filename or run.path}: cannot be written: {error.strerror}"
    if not run.last_checkpoint.is_file():
        return AttnbuildError(f"{what}; the run has no checkpoint yet: make room and start it again")
    return AttnbuildError(
        f"{what}; the last checkpoint is whole: make room, then attnbuild train resume={run.path} goes on from it"
    )


def remove_drafts(run: RunFolder) -> None:
    """Remove what a killed process had not finished to write. Nobody else may be writing."""
    for folder in (run.path, run.checkpoints, run.samples):
        for path in folder.glob(".*") if folder.is_dir() else ():
            match = _DRAFT.fullmatch(path.name)
            if match and match["name"] not in _NOT_OURS and path.is_file():
                Path(path).unlink(missing_ok=True)
