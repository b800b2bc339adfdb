"""Commands typed within this process, and a training that only notes what it was given."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attnbuild.cli.main import main


@dataclass
class Outcome:
    """What a command left: exit code and both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Type a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def type_command(*words: str) -> Outcome:
        code = main(words)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return type_command


@pytest.fixture
def refused(run):
    """Type a command that must be refused: exit code 2, no traceback, none of Hydra's advice, no folder."""

    def type_command(*words: str) -> str:
        outcome = run(*words)
        assert outcome.code == 2, outcome
        assert "Traceback" not in outcome.err
        assert "HYDRA_FULL_ERROR" not in outcome.err
        assert "+attention" not in outcome.err
        assert not Path("outputs").exists()
        return outcome.err

    return type_command


@dataclass
class Call:
    """What ``train`` was called with."""

    config: dict[str, Any]
    folder: Path
    typed: list[str]


@pytest.fixture
def trained(monkeypatch):
    """The calls of a training that does nothing; ``attnbuild.training.fit`` is not imported."""
    calls: list[Call] = []

    def train(config: dict[str, Any], run: Any, typed: list[str]) -> dict[str, Any]:
        calls.append(Call(config, run.path, typed))
        return {"status": "done"}

    module = types.ModuleType("attnbuild.training.fit")
    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "attnbuild.training.fit", module)
    return calls


@pytest.fixture
def user_dir(tmp_path):
    """Write a config into a user's own folder: ``user_dir("experiment/mine", text)`` gives the folder."""
    folder = tmp_path / "own"
    folder.mkdir()

    def write(name: str, text: str) -> str:
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return str(folder)

    return write
