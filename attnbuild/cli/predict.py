"""``attnbuild predict run=DIR input=FILE output=FILE``: use a trained run, one output a line of input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbuild.cli.changes import read_changes

__all__ = ["HELP", "run"]

HELP = """\
attnbuild predict run=DIR input=FILE|- output=FILE|- [OVERRIDE ...]: use a trained run.

  run=DIR            a run folder, or one of its checkpoints
  input=FILE         one input a line; - is standard input
  output=FILE        one output a line, in the same order; - is standard output
  search=...         another search: search=greedy, search.beam=10"""


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: a word is missing, or an override is wrong.
        CheckpointError: there is no such run.
        DataError: the input cannot be read.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    given, changes = read_changes(words, ["run", "input", "output"])

    from attnbuild.training.predict import predict_run

    predict_run(Path(given["run"]), given["input"], given["output"], changes)
    return 0
