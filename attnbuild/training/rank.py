"""What one of several training processes runs: ``python -m attnbuild.training.rank RUN_DIR``.

Everything it needs is in the run folder; the environment says which rank it is.
"""

from __future__ import annotations

import os
import sys

from attnbuild.errors import AttnbuildError

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Train as one rank; the exit code."""
    from attnbuild.training import distributed
    from attnbuild.training.fit import train_rank
    from attnbuild.training.run import RunFolder

    distributed.watch_parent()
    try:
        train_rank(RunFolder.open(argv[0]))
    except KeyboardInterrupt:
        return 130
    except AttnbuildError as error:  # the parent prints it
        distributed.report_error(error)
        return error.exit_code
    except BaseException as error:  # a defect: the traceback is for its author
        distributed.report_error(error)
        raise
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the threads of gloo that still run when the interpreter ends abort the process now and then.
    os._exit(code)
