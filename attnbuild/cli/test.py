"""``attnbuild test run=DIR``: score a trained run on its test data, or on other data, by any search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbuild.cli.changes import read_changes

__all__ = ["HELP", "run"]

HELP = """\
attnbuild test run=DIR [OVERRIDE ...]: score a trained run on the test split.

  run=DIR            a run folder, or one of its checkpoints
  data=...           other test data: data=text data.root=DIR
  search=...         another search: search=greedy, search.beam=10

Scores are printed and kept in DIR/test-N.json."""


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: ``run=`` is missing, or an override is wrong.
        CheckpointError: there is no such run.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    given, changes = read_changes(words, ["run"])

    from attnbuild.training.evaluate import test_run

    result = test_run(Path(given["run"]), changes)
    for name, value in sorted(result["metrics"].items()):
        print(f"{name}  {value:.4g}")
    return 0
