"""Start-up costs what it must: which libraries each command imports, seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = {"lightning", "torchmetrics", "datasets", "matplotlib", "sacrebleu", "pandas", "tensorboard"}
WITHOUT_TORCH = TRAINING | {"torch", "tokenizers"}


def imported(words: list[str], tmp_path, line: str = "") -> set[str]:
    """The libraries that are loaded once a command is through."""
    program = (
        "import sys\n"
        "from attnbuild.cli.main import main\n"
        f"main({words!r})\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "COMP_LINE": line, "PATH": "", "HOME": str(tmp_path)},
    )
    assert "LOADED" in result.stdout, result.stderr
    return set(result.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--help"], ""),
        (["train", "--help"], ""),
        (["train", "attention=windo", "sede=1", "-m", "seed=1,2"], ""),
        (["train", "--cfg", "job"], ""),
        (["-sc", "query=bash"], "attnbuild train attention=window attention."),
    ],
)
def test_no_torch(words, line, tmp_path):
    assert not imported(words, tmp_path, line) & WITHOUT_TORCH


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "attention"],
        ["show"],
        ["train", "trainer.max_steps=0", "callbacks.early_stopping.patience=0"],
    ],
)
def test_torch_at_most(words, tmp_path):
    loaded = imported(words, tmp_path)
    assert not loaded & TRAINING
    assert "torch" in loaded
