"""The fourth task, as its page in the docs writes it: trained, tested, and asked from its checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.test_docs import ROOT, fences

TRAIN = "train plugins=[my_tagging] task=tagging data.root=my_tags data.validation=train.csv"
SMALL = (
    "data.test=train.csv trainer.max_steps=60 validation.every=30 model.dim=16 model.dropout=0 optimizer.lr=0.02 "
    "scheduler=constant average=none"
)


def attnbuild(*words: str, folder: Path, typed: str = "") -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("attnbuild"), *words],  # as typed: it does not look into the folder itself
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_words_are_tagged(tmp_path: Path) -> None:
    for fence in fences(ROOT / "docs" / "your-own-task.md"):
        if fence.path:
            (tmp_path / fence.path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / fence.path).write_text(fence.body, encoding="utf-8")
    assert {path.name for path in tmp_path.rglob("*.*")} == {"my_tagging.py", "train.csv"}
    assert "A tag for each word" in attnbuild("list", "task", "plugins=[my_tagging]", folder=tmp_path)
    attnbuild(*TRAIN.split(), *SMALL.split(), folder=tmp_path)
    (summary,) = tmp_path.rglob("summary.json")
    metrics = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
    assert metrics["test/tags"] == metrics["test/accuracy"] == 1.0
    words = ["predict", f"run={summary.parent}", "plugins=[my_tagging]", "input=-"]
    assert attnbuild(*words, folder=tmp_path, typed="the dog sees a cat\n\na cat sleeps\n").splitlines() == [
        "DET NOUN VERB DET NOUN",
        "",
        "DET NOUN VERB",
    ]
