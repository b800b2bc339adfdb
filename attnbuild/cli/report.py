"""``attnbuild report DIR``: one page that compares the jobs of a sweep, or the runs under any folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbuild.errors import ConfigError, did_you_mean

__all__ = ["HELP", "run"]

HELP = """\
attnbuild report DIR [output=DIR]: compare the jobs of a sweep, or the runs under any folder, in one page.

  DIR                a sweep (outputs/sweeps/NAME), or a folder with runs under it (outputs/translation)
  output=DIR         where report.html and report.csv go; by default into that folder

report.html is one file that needs no network: what failed and why, tables of every run and over seeds, quality
against cost with its Pareto front, learning curves, and the attention maps of the same example side by side.
report.csv has every figure."""

_OUTPUT = "output="


def run(words: Sequence[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: a word is wrong, the folder has no runs, or a package is missing.
    """
    if {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    folder, output = _read(words)

    from attnbuild.sweeps.report.page import PAGE, TABLE, write_report

    lines = write_report(folder, output)
    print("\n".join([f"report: {output / PAGE}", f"table:  {output / TABLE}", *lines]))
    return 0


def _read(words: Sequence[str]) -> tuple[Path, Path]:
    """The folder to report and the one to write to. Paths are taken as they are: names of jobs have = in them."""
    outputs = [word.removeprefix(_OUTPUT) for word in words if word.startswith(_OUTPUT)]
    paths = [word for word in words if not word.startswith(_OUTPUT)]
    for word in paths:
        if word.startswith("-"):
            raise ConfigError(f"unknown flag {word!r}; see attnbuild report --help")
        if len(paths) > 1 and "=" in word and not Path(word).exists():
            name = word.partition("=")[0]
            raise ConfigError(f"unknown word {word!r}; {did_you_mean(name, [_OUTPUT.rstrip('=')])}")
    if len(paths) != 1:
        what = "no folder is given" if not paths else f"one folder at a time, not {len(paths)}"
        raise ConfigError(f"{what}: attnbuild report outputs/sweeps/NAME [output=DIR]")
    if len(outputs) > 1 or "" in outputs:
        raise ConfigError("output= takes one folder, once: output=DIR")
    return Path(paths[0]), Path(outputs[0] if outputs else paths[0])
