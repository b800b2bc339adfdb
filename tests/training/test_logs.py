"""How a run's log.txt ends: with what ended the run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from attnbuild.errors import ConfigError, DataError
from attnbuild.training.fit import train
from attnbuild.training.logs import messages
from attnbuild.training.run import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def end_with(run: RunFolder, error: BaseException, rank: int = 0) -> str:
    """What is in log.txt after a message and an error."""

    def fail() -> None:
        with messages(run, rank):
            logging.getLogger("attnbuild").info("so far so good")
            raise error

    with pytest.raises(type(error)):
        fail()
    return run.log_file.read_text(encoding="utf-8") if run.log_file.exists() else ""


def test_a_mistake_is_the_last_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first, last = end_with(run, DataError("train.de:21: has no partner, 100% sure")).splitlines()
    assert first.endswith("INFO    so far so good")
    assert last.endswith("ERROR   train.de:21: has no partner, 100% sure")
    assert "partner" not in capsys.readouterr().err, "the command line prints it, once"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("is wrong", "model.dim"), "model.dim  is wrong"),
        (OSError(28, "No space left on device", "last.ckpt"), "ERROR   last.ckpt: No space left on device"),
        (KeyboardInterrupt(), "WARNING interrupted"),
    ],
)
def test_other_endings_without_a_traceback(run: RunFolder, error: BaseException, line: str) -> None:
    text = end_with(run, error)
    assert text.splitlines()[-1].endswith(line)
    assert "Traceback" not in text


def test_a_defect_leaves_its_traceback(run: RunFolder) -> None:
    text = end_with(run, ZeroDivisionError("a defect"))
    assert "so far so good" in text
    assert "Traceback" in text
    assert text.splitlines()[-1] == "ZeroDivisionError: a defect"


def test_of_several_processes_the_parent_tells_it(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end_with(run, DataError("wrong"), rank=1) == ""
    monkeypatch.setenv("ATTNBUILD_RANK_ERRORS", str(run.path))
    assert "wrong" not in end_with(run, DataError("wrong"))
    assert end_with(run, ZeroDivisionError("a defect")).splitlines()[-1] == "ZeroDivisionError: a defect"


def test_a_run_that_fails(config: dict[str, Any], tmp_path: Path) -> None:
    """The summary, the log and what the caller prints say the same."""
    config["trainer"]["accelerator"] = "cpu"
    config["init_from"] = str(tmp_path / "nowhere")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(Exception, match="there is no such") as error:
        train(config, run, [])
    last = run.log_file.read_text(encoding="utf-8").splitlines()[-1]
    assert last.endswith(f"ERROR   {error.value}")
    assert str(error.value) in run.read_summary()["error"]
