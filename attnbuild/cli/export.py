"""``attnbuild export run=DIR format=NAME``: a trained run for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbuild.cli.changes import read_changes
from attnbuild.errors import ConfigError
from attnbuild.training.run import home_of

__all__ = ["HELP", "run"]

HELP = """\
attnbuild export run=DIR format=ctranslate2|onnx [output=FOLDER]: write a trained run for other programs.

  run=DIR            a run folder, or one of its checkpoints
  format=...         ctranslate2: a folder for ctranslate2.Translator, with the tokenizers beside the model
                     onnx: model.onnx of a classifier, encoder.onnx and decoder.onnx of what writes text
  output=FOLDER      a new or an empty folder; the default is DIR/FORMAT

What a format cannot express is told by `attnbuild show` before there is anything to export."""


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: a word is missing or wrong, or the format cannot express the model.
        CheckpointError: there is no such run.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    given, changes = read_changes(words, ["run", "format"], {"output": ""})
    if changes:
        raise ConfigError(f"export writes a run as it is: leave out {', '.join(changes)}")

    from attnbuild.training.export import export_run

    trained = Path(given["run"])
    folder = Path(given["output"]) if given["output"] else home_of(trained) / given["format"]
    for path in export_run(trained, given["format"], folder):
        print(path)
    return 0
