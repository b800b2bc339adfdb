from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnbuild.errors import CheckpointError, ConfigError
from attnbuild.training.run import RunFolder, atomic_writer


def test_atomic_writer_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def write_half() -> None:
        with atomic_writer(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_writer(tmp_path / "atomic") as file:
        file.write("ä")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "atomic").read_bytes() == "ä".encode()


def test_config_and_overrides_come_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a" / "run")
    run.create()
    config = {"b": {"x": 1e-9, "y": None}, "a": [1, "über"], "attention_by_layer": {0: "window"}}
    run.write_config(config, ["attention=window", "b.x=1e-9"])
    assert RunFolder.open(run.path).read_config() == config
    assert run.read_overrides() == ["attention=window", "b.x=1e-9"]


def test_damaged_config(tmp_path: Path) -> None:
    for text in ("a: [", "just words"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(CheckpointError, match=r"config.yaml"):
            RunFolder.open(tmp_path).read_config()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write to .*choose a folder by paths.outputs=DIR"):
        RunFolder(tmp_path / "file" / "run").create()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot write to"):
        RunFolder(tmp_path).create()


def test_next_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.next_file("test-%d.json").name == "test-1.json"
    run.write_text("test-1.json", "")
    assert run.next_file("test-%d.json").name == "test-2.json"


def test_chosen_checkpoint(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    assert run.chosen_checkpoint() == run.last_checkpoint
    run.best_checkpoint.touch()
    assert run.chosen_checkpoint() == run.best_checkpoint
    run.averaged_checkpoint.touch()
    assert run.chosen_checkpoint() == run.best_checkpoint
    run.write_summary({"checkpoint": "averaged.ckpt"})
    assert run.chosen_checkpoint() == run.averaged_checkpoint
