"""What users get wrong: told in plain words, with an exit code, and without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import only_run, run_command

#: A few steps on the user's own data.
TRAIN = ("train", "debug=fast", "validation.maps=0", "model.dim=32", "tokenizer.vocab_size=300", "trainer.threads=1")

SOURCE = "".join(f"line number {n}\n" for n in range(20))
TARGET = "".join(f"Zeile Nummer {n}\n" for n in range(20))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("attention=windw", "encoder=rn", "sed=2", "trainer.max_steps"),
            (
                "4 problems",
                "there is no 'windw'; did you mean 'window'?",
                "there is no 'rn'; did you mean 'rnn'?",
                "there is no key 'sed'; did you mean 'seed'?",
                "trainer.max_steps  (command line) is not an override: they are written key=value",
            ),
        ),
        (
            ("attention=window", "attention.windw=4", "model.drop=0.2", "optimizer.lr=fast"),
            (
                "3 problems",
                "attention.windw  (command line) unknown option of preset 'window'; did you mean 'window'?",
                "did you mean 'dropout'?",
                "optimizer.lr",
            ),
        ),
        (
            ("decoder/cross_attention=window",),
            ("1 problem", "decoder.cross_attention", "'window' cannot serve here"),
        ),
    ],
    ids=["names", "options", "places"],
)
def test_typing_errors_are_told_together(words: tuple[str, ...], told: tuple[str, ...], tmp_path: Path) -> None:
    outcome = run_command("train", *words, cwd=tmp_path)
    assert outcome.code == 2
    for text in told:
        assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Parallel text as a user may bring it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.en").write_text(SOURCE)
        (folder / f"{split}.de").write_text(TARGET)
    return folder


#: A process each; tests/data reads such files in one.
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("files", "content", "told"),
    [
        ("train.de", f"{TARGET}zu viel\n", "mine/train.de:21: has no partner: train.de has 21 lines, train.en has 20"),
        pytest.param(
            "validation.de", TARGET.replace("r 7", "r \udce4"), "mine/validation.de:8: not UTF-8: byte 0xe4", marks=SLOW
        ),
        pytest.param("test.de", None, "no file 'test.de' (from data.test): tried mine/test.de", marks=SLOW),
        pytest.param("train.*", "", "no example in train: it is empty (mine/train.en and mine/train.de)", marks=SLOW),
    ],
    ids=["unequal", "not-utf-8", "missing", "empty"],
)
def test_wrong_parallel_text(own_data: Path, tmp_path: Path, files: str, content: str | None, told: str) -> None:
    for file in own_data.glob(files):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert_refused(tmp_path, ("data=text", "data.root=mine"), told)


def test_a_table_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("english,target\nhello,hallo\n")
    words = ("data=table", "data.validation=train.csv", "data.test=train.csv")
    assert_refused(tmp_path, words, "train.csv:1: no column 'source'; the columns are: english, target")


def assert_refused(folder: Path, words: tuple[str, ...], told: str) -> None:
    """The data is refused in one line, which the run's summary repeats."""
    outcome = run_command(*TRAIN, *words, cwd=folder)
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.err
    announced, message = outcome.err.splitlines()
    assert "run folder" in announced
    assert told in message
    summary = json.loads((only_run(folder) / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert told in summary["error"]


@pytest.mark.parametrize("folder", ["file/outputs", "/proc/outputs"])
def test_outputs_that_cannot_be_written(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = run_command("train", f"paths.outputs={folder}", cwd=tmp_path)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert line.startswith("cannot write to ")
    assert line.endswith("choose a folder by paths.outputs=DIR")
