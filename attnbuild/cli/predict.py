"""``attnbuild predict run=DIR input=FILE``: use a trained run on lines of text or on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbuild.cli.changes import read_changes
from attnbuild.training.run import home_of

__all__ = ["HELP", "run"]

HELP = """\
attnbuild predict run=DIR input=FILE|DIR|- [output=FILE|-] [explain=true] [OVERRIDE ...]: use a trained run.

  run=DIR            a run folder, or one of its checkpoints
  input=FILE         one text a line (two with a tab between them, for a model of pairs); - is standard input;
                     for a model that reads images, an image or a folder of images; for either a table (csv, tsv,
                     jsonl, parquet): data.source=COLUMN, for a model of pairs data.pair=COLUMN too
  output=FILE        one output a line, in the same order; a name in .jsonl gets scores and alternatives or the
                     probability of each label too, one in .csv or .tsv a table; - (the default) is standard output
  explain=true       draws what the model attended to, one picture an input, named by its number from 0, in
                     DIR/explained; explain=FOLDER: there
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
    given, changes = read_changes(words, ["run", "input"], {"output": "-", "explain": "false"})

    from attnbuild.training.predict import predict_run

    predict_run(Path(given["run"]), given["input"], given["output"], changes, _folder(given))
    return 0


def _folder(given: dict[str, str]) -> Path | None:
    """Where the pictures go; None where none are asked for."""
    if given["explain"].lower() in ("false", "no", "0", ""):
        return None
    if given["explain"].lower() not in ("true", "yes", "1"):
        return Path(given["explain"])
    return home_of(Path(given["run"])) / "explained"
