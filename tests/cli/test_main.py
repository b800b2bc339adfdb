"""The program as a whole: help, exit codes, and that nothing of one command is left for the next."""

from __future__ import annotations

import os
import sys

import pytest

from attnbuild.cli import main as program
from attnbuild.errors import CheckpointError, ConfigError


def fail_with(error):
    def command(words):
        raise error

    return command


@pytest.fixture
def failing(monkeypatch):
    """Make ``attnbuild show`` raise an error."""

    def put(error):
        monkeypatch.setattr("attnbuild.cli.show.run", fail_with(error))

    return put


def test_help_names_every_command(run):
    outcome = run("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in program.COMMANDS)


def test_no_command_is_help_and_a_usage_error(run):
    outcome = run()
    assert outcome.code == 2
    assert "usage: attnbuild COMMAND" in outcome.out


def test_version(run):
    outcome = run("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("attnbuild ")


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_has_help(run, command):
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert command in outcome.out


def test_unknown_command_gives_the_nearest(run):
    outcome = run("trian", "attention=window")
    assert outcome.code == 2
    assert "unknown command 'trian'; did you mean 'train'?" in outcome.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no"), 2, "no\n"),
        (CheckpointError("damaged"), 1, "damaged\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (PermissionError(13, "Permission denied", "/outputs"), 1, "/outputs: Permission denied\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(run, failing, error, code, line):
    failing(error)
    outcome = run("show")
    assert (outcome.code, outcome.err) == (code, line)


def test_a_defect_keeps_its_traceback(failing):
    failing(ZeroDivisionError("a defect"))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        program.main(["show"])


def test_hydra_full_error_shows_tracebacks(run, failing, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    failing(ConfigError("no"))
    outcome = run("show")
    assert outcome.code == 2
    assert "Traceback" in outcome.err


def test_nothing_is_left_behind(run):
    argv, environment = list(sys.argv), dict(os.environ)
    run("train", "attention=windo")
    run("train", "--cfg", "job")
    assert sys.argv == argv
    assert dict(os.environ) == environment
