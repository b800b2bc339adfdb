from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnbuild.errors import CheckpointError, ConfigError, DataError
from attnbuild.training.changes import changed_config
from attnbuild.training.evaluate import test_run as score_run
from attnbuild.training.fit import train
from attnbuild.training.predict import _inputs, predict_run
from attnbuild.training.run import RunFolder

PLUGINS = {"plugins": ["fake_task"]}


@pytest.fixture(scope="module")
def run(base_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    train(copy.deepcopy(base_config), folder, [])
    return folder


def test_test_gives_what_training_gave(run: RunFolder) -> None:
    first = score_run(run.path, PLUGINS)
    expected = {k: v for k, v in run.read_summary()["metrics"].items() if k.startswith("test/")}
    assert first["metrics"] == pytest.approx(expected)
    assert first["signatures"] == {"bleu": "tokens|fake"}
    second = score_run(run.best_checkpoint, PLUGINS)
    assert second["metrics"] == first["metrics"]
    assert json.loads((run.path / "test-1.json").read_text()) == first
    assert (run.path / "test-2.json").is_file()
    lines = (run.path / "predictions-test-2.jsonl").read_text()
    assert lines == (run.path / "predictions-test.jsonl").read_text()


def test_test_with_other_settings(run: RunFolder) -> None:
    result = score_run(run.path, {**PLUGINS, "trainer": {"limit_eval_batches": 1}})
    assert result["metrics"] != run.read_summary()["metrics"]


def test_what_a_model_was_trained_with_cannot_be_changed(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1\n")
    changes = {**PLUGINS, "image": {"size": 8}, "tokenizer": {"type": "word"}}
    with pytest.raises(ConfigError) as error:
        predict_run(run.path, str(tmp_path / "in"), "-", changes)
    assert [problem.path for problem in error.value.problems] == ["image", "tokenizer"]
    assert "what can be changed: batch, data, plugins, search, trainer" in str(error.value)


def test_documents_and_pictures_are_no_lines_of_text(run: RunFolder, tmp_path: Path) -> None:
    for name in ("in.json", "in.png"):
        (tmp_path / name).write_text("1\n")
        with pytest.raises(DataError, match=f"{name}: is no file of texts; predict reads one text a line"):
            predict_run(run.path, str(tmp_path / name), "-", PLUGINS)
    with pytest.raises(DataError, match="is a folder, and this model reads texts"):
        predict_run(run.path, str(tmp_path), "-", PLUGINS)


def test_changes_are_merged_and_a_type_replaces() -> None:
    config = {"search": {"type": "beam", "beam": 5, "x": 1}, "batch": {"a": 1, "b": 2}, "seed": 1}
    changes = {"search": {"type": "greedy"}, "batch": {"a": 3}, "seed": 2}
    assert changed_config(config, changes) == {"search": {"type": "greedy"}, "batch": {"a": 3, "b": 2}, "seed": 2}
    assert config["batch"] == {"a": 1, "b": 2}


def test_file_to_file_in_order(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1\n2\n3\n1\n")
    assert predict_run(run.path, str(tmp_path / "in"), str(tmp_path / "out"), PLUGINS) == 4
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] == lines[3]


def test_stream_to_stream(run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\r\n2\n3")))
    assert predict_run(run.path, "-", "-", PLUGINS) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_empty_input_gives_empty_output(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    assert predict_run(run.path, str(tmp_path / "in"), str(tmp_path / "out"), PLUGINS) == 0
    assert (tmp_path / "out").read_text() == ""


def test_wrong_files(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        predict_run(run.path, str(tmp_path / "missing"), "-", PLUGINS)
    (tmp_path / "in").write_bytes(b"1\n\xff\n")
    with pytest.raises(DataError, match=r"in:2: is not valid UTF-8"):
        predict_run(run.path, str(tmp_path / "in"), str(tmp_path / "out"), PLUGINS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="is a folder"):
        predict_run(run.path, str(tmp_path / "in"), str(tmp_path), PLUGINS)
    with pytest.raises(DataError, match="there is no folder"):
        predict_run(run.path, str(tmp_path / "in"), str(tmp_path / "no" / "out"), PLUGINS)
    with pytest.raises(CheckpointError, match="there is no such run folder"):
        predict_run(tmp_path / "no", str(tmp_path / "in"), "-", PLUGINS)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_model_of_captions_reads_the_table_that_it_learnt_from(tmp_path: Path, elsewhere: bool) -> None:
    """Its pictures lie beside the table, or where those of the training data do; a row without one stays a row."""
    data = {"type": "caption_table", "root": str(tmp_path), "path": "birds", "images": "photos", "image": "file"}
    photos = tmp_path / "birds" / "photos"
    photos.mkdir(parents=True)
    (photos / "a.png").write_bytes(b"of a bird")
    table = tmp_path / ("elsewhere" if elsewhere else "birds") / "captions.tsv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("caption\tfile\na bird\ta.png\na bird again\ta.png\nnothing\t\n", encoding="utf-8")
    reads: Any = SimpleNamespace(reads="image")
    first, again, nothing = _inputs(reads, str(table), data)
    assert first.data == again.data == photos / "a.png"
    assert nothing == ""
