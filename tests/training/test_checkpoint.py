from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import attnbuild
from attnbuild.errors import CheckpointError
from attnbuild.training import checkpoint as checkpoints
from attnbuild.training.checkpoint import load, load_checkpoint, load_matching, save_checkpoint
from attnbuild.training.fit import train
from attnbuild.training.run import RunFolder

GOOD = {"attnbuild": {"schema": 1, "config": {}, "artifacts": {}, "step": 0}, "state_dict": {}}


@pytest.fixture(scope="module")
def run(base_config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    train(copy.deepcopy(base_config), folder, [])
    return folder


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)  # type: ignore[attr-defined]


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    payload = Malicious()
    payload.target = tmp_path / "owned"  # type: ignore[attr-defined]
    torch.save({**GOOD, "more": payload}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"evil.ckpt: cannot be loaded: .* nothing of it was run") as error:
        load_checkpoint(tmp_path / "evil.ckpt")
    assert "\n" not in str(error.value)
    assert not payload.target.exists()  # type: ignore[attr-defined]


def test_raw_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    import pickle

    payload = Malicious()
    payload.target = tmp_path / "owned"  # type: ignore[attr-defined]
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(payload))
    with pytest.raises(CheckpointError, match="damaged, or no checkpoint at all"):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not payload.target.exists()  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated(run: RunFolder, tmp_path: Path, share: float) -> None:
    whole = run.last_checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut.ckpt: cannot be loaded: it is damaged") as error:
        load_checkpoint(tmp_path / "cut.ckpt")
    assert "\n" not in str(error.value)


def test_missing_foreign_and_newer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt")
    for content in ({"state_dict": {}}, [1], {"attnbuild": 3}):
        torch.save(content, tmp_path / "foreign.ckpt")
        with pytest.raises(CheckpointError, match="is no checkpoint of attnbuild"):
            load_checkpoint(tmp_path / "foreign.ckpt")
    torch.save({"attnbuild": {"schema": 99}}, tmp_path / "newer.ckpt")
    with pytest.raises(CheckpointError, match="has schema 99 and this attnbuild reads 1"):
        load_checkpoint(tmp_path / "newer.ckpt")


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(GOOD, path)

    def fail(*args: Any) -> None:
        args[1].write(b"half a checkpoint")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(GOOD, path)
    assert load_checkpoint(path) == GOOD
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_load_from_run_and_from_file(run: RunFolder, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.ckpt"
    moved.write_bytes(run.best_checkpoint.read_bytes())
    for path in (run.path, run.best_checkpoint, moved):
        loaded = attnbuild.load(path, plugins=["fake_task"])
        assert not loaded.model.training
        assert loaded.task.artifacts() == {"tokenizer.json": "numbers"}
        assert [p.text for p in loaded.task.predict(loaded.model, ["1", "2"], None)]


def test_plugins_are_imported_for_the_user_alone(run: RunFolder) -> None:
    with pytest.raises(CheckpointError, match=r"trained with plugins; .* add plugins=\[fake_task\]"):
        load(run.path)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such run folder"):
        load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"it has no config.yaml"):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(CheckpointError, match="has no checkpoint; the run ended before its first validation"):
        load(tmp_path)


def test_matching_tensors_are_loaded_and_others_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    weights = {"0.weight": torch.ones(3, 2), "1.weight": torch.ones(5, 3), "2.weight": torch.ones(1)}
    assert load_matching(model, weights) == ["0.bias", "1.bias", "1.weight"]
    assert (model[0].weight == 1).all()


def test_checkpoint_holds_only_plain_values(run: RunFolder) -> None:
    own = load_checkpoint(run.last_checkpoint)["attnbuild"]
    assert own["schema"] == 1
    assert own["step"] == 12
    assert own["config"]["optimizer"] == {"type": "adamw", "lr": 0.02}
    assert own["artifacts"] == {"tokenizer.json": "numbers"}
