"""Every shipped YAML trains a step, is validated, tested and leaves a summary.

Files of different groups share a run: run k takes the k-th file of each group, over and over, so that
as many runs as the largest group has files cover them all.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from attnbuild.attention import describe
from attnbuild.cli.main import main
from attnbuild.paths import conf_dir

TINY = [
    "trainer.max_steps=1",
    "trainer.limit_eval_batches=1",
    "validation.every=1",
    "validation.maps=1",
    "model.dim=16",
    "batch.tokens=256",
]
CLDR = ["data.train=200", "data.validation=6", "data.test=6"]

#: Groups whose files can be combined freely; the others have a test of their own below.
FREE = ["attention", "optimizer", "scheduler", "tokenizer", "search", "callbacks", "debug"]
#: What cannot run here, and why.
ELSEWHERE = {
    "trainer/gpu": "needs a GPU: tests/test_gpu.py",
    "trainer/ddp": "needs a GPU: tests/test_gpu.py",
    "trainer/ddp_sim": "two processes: tests/e2e",
    "data/text": "needs the user's files: tests/test_docs.py",
    "data/table": "needs the user's files: tests/test_docs.py",
    "data/hf": "needs the user's files: tests/data/readers/test_hf.py",
    "logger/wandb": "needs an extra: tests/training/test_loggers.py",
    "logger/mlflow": "needs an extra: tests/training/test_loggers.py",
}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def runs() -> list[list[str]]:
    rounds = max(len(names(group)) for group in FREE)
    columns = [
        [f"{group}={name}" for name in itertools.islice(itertools.cycle(names(group)), rounds)] for group in FREE
    ]
    alone = [[f"recipe={name}"] for name in names("recipe")] + [["experiment=demo", "logger=csv"]]
    return [[*row, *decoder_for(row[0])] for row in zip(*columns, strict=True)] + alone


def decoder_for(attention: str) -> list[str]:
    """What else an attention needs to be of use: some serve a recurrent decoder alone."""
    parallel = describe(attention.removeprefix("attention="))["capabilities"]["parallel"]
    return [] if parallel else ["encoder=rnn", "decoder=rnn"]


def train(tmp_path: Path, words: list[str]) -> dict:
    assert main(["train", *words, *TINY, f"paths.outputs={tmp_path}"]) == 0
    (summary,) = tmp_path.rglob("summary.json")
    assert "test (" in (summary.parent / "log.txt").read_text(encoding="utf-8"), "every run in a process has its log"
    return json.loads(summary.read_text())


@pytest.mark.parametrize("words", runs(), ids=lambda words: words[0])
def test_every_choice_trains_a_step(tmp_path: Path, words: list[str]) -> None:
    summary = train(tmp_path, [*words, *CLDR])
    assert summary["status"] == "ok"
    assert summary["metrics"]["test/bleu"] >= 0


def test_multi30k_trains_a_step(tmp_path: Path, real_data: Path) -> None:
    """On the first lines of the real files."""
    folder = tmp_path / "data" / "multi30k"
    folder.mkdir(parents=True)
    for path in (real_data / "multi30k").glob("*.*"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:200]), encoding="utf-8")
    summary = train(
        tmp_path / "runs", ["experiment=multi30k", f"data.root={folder.parent}", "tokenizer.vocab_size=400"]
    )
    assert summary["status"] == "ok"


def test_every_file_is_covered() -> None:
    """A new file in a group runs here, or says where else."""
    covered = {word.replace("=", "/") for words in runs() for word in words}
    covered |= {
        "data/multi30k",
        "experiment/multi30k",
        "data/cldr",
        "task/translation",
        "trainer/cpu",
        "logger/default",
    }
    covered |= {
        f"{part}/{name}" for part in ("encoder", "decoder") for name in ("transformer", "rnn")
    }  # by the recipes
    shipped = {
        str(path.relative_to(conf_dir()).with_suffix(""))
        for path in conf_dir().rglob("*.yaml")
        if "hydra" not in path.parts and path.parent != conf_dir()
    }
    assert shipped - covered - set(ELSEWHERE) == set()
