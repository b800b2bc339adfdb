"""The batch script of a job on a SLURM cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

__all__ = ["batch_script"]

#: Runs once, when SLURM has found machines. The shell stays, since it alone is warned of the end of its time.
_SCRIPT = """\
#!/bin/bash
{directives}
# Made by attnbuild (launcher=slurm): trains what lies in the run folder, or goes on with it.
folder={folder}
python={python}
{setup}
# Warned of the end of its time, or cancelled: all processes save a checkpoint at the same update and end with 130.
stopping= cancelled=
stop() {{ stopping=1; scancel --signal=USR1 "$SLURM_JOB_ID"; }}
trap stop USR1
trap 'cancelled=1; stop' TERM

: > "$folder/.slurm-began"
"$python" -m attnbuild.sweeps.job "$folder" -- {srun} "$python" -m attnbuild.training.rank "$folder" &
while :; do stopping=; wait $!; code=$?; [ "$stopping" ] || break; done
{requeue}exit $code
"""

_REQUEUE = """
# Back to the queue, to go on from the checkpoint; not after two attempts that came to none, nor when cancelled.
state=$(squeue -h -j "$SLURM_JOB_ID" -o %T)
if [ $code -eq 130 ] && [ ! "$cancelled" ] && [[ $state == RUNNING || $state == SIGNALING ]]; then
    if [ "$folder/checkpoints/last.ckpt" -nt "$folder/.slurm-began" ]; then
        rm -f "$folder/.slurm-stuck"
    elif [ -e "$folder/.slurm-stuck" ]; then
        echo "two attempts ended before their first checkpoint; raise launcher.time, or lower validation.every"
        exit $code
    else
        : > "$folder/.slurm-stuck"
    fi
    "$python" -m attnbuild.sweeps.launchers.slurm "$folder"  # notes it
    scontrol requeue "$SLURM_JOB_ID" && sleep 60  # SLURM ends this script
fi
"""


def batch_script(
    folder: Path,
    *,
    directives: Sequence[str],
    srun: Sequence[str],
    setup: Sequence[str],
    python: str,
    requeue: bool,
) -> str:
    """The text of a script for sbatch.

    Args:
        folder: the run folder.
        directives: words for #SBATCH, as ``--nodes=2``.
        srun: further words for srun.
        setup: shell lines that come before; one that fails ends the job.
        python: the interpreter.
        requeue: whether a job that must end early goes back to the queue.
    """
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {quoted(word)}" for word in directives),
        folder=shlex.quote(str(folder)),
        python=shlex.quote(python),
        setup="\n".join(["set -e", *setup, "set +e", ""]) if setup else "",
        srun=shlex.join(["srun", "--kill-on-bad-exit=1", "--mpi=none", *srun]),
        requeue=_REQUEUE if requeue else "",
    )


def quoted(word: str) -> str:
    """A word as a line of #SBATCH takes it."""
    return word if re.fullmatch(r"[\w@%+=:,./\[\]&|*-]+", word) else shlex.quote(word)
