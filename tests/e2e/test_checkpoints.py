"""Damaged and hostile checkpoints are refused by every command that reads one, and nothing of them is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.e2e.commands import SMALL, Outcome, run_command

HARM = "harm-was-done"


class Harm:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {HARM}",)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def poison(file: Path) -> None:
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["attnbuild"]["extra"] = Harm()
    torch.save(checkpoint, file)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(truncate, "cannot be loaded: it is damaged", marks=pytest.mark.slow),
        (poison, "it holds more than tensors and plain values; nothing of it was run"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        ("predict", "run=run", "input=-", "output=out.txt"),
        ("train", "resume=run", "trainer.max_steps=140"),
        ("train", *SMALL, "init_from=run"),
    ],
    ids=["predict", "resume", "init_from"],
)
def test_bad_checkpoints(
    spoil: Callable[[Path], None], told: str, words: tuple[str, ...], whole_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(whole_run, tmp_path / "run")
    for file in run.glob("checkpoints/*.ckpt"):
        spoil(file)
    before = contents(run)
    outcome: Outcome = run_command(*words, cwd=tmp_path, input="3 weeks ago\n")
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.err
    assert told in outcome.err.splitlines()[-1]
    assert not (tmp_path / HARM).exists()
    assert not (tmp_path / "out.txt").exists()
    assert contents(run) == before, "a refused checkpoint leaves the run as it was"


def test_the_poison_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "any.ckpt"
    torch.save({"attnbuild": {}}, file)
    poison(file)
    torch.load(file, weights_only=False)
    assert Path(HARM).exists()


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files but the lock, which says who held it last."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "run.lock")
    return {file: file.read_bytes() for file in files}
