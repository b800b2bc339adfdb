"""Faults as a user meets them: runs that are killed, data that vanishes, folders in use."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.e2e.commands import PATIENCE, SMALL, only_run, run_command, start_command

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faults"] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_three_times(faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes a kill in an update, in a validation and in a checkpoint; `benchmarks/faults.py` has fifty."""
    monkeypatch.setattr(faults, "SHARES", {"classification": 1})
    said: list[str] = []
    kills = faults.campaign(3, 2, tmp_path, said.append)
    assert [kill.fault for kill in kills] == ["", "", ""], said
    assert {kill.where for kill in kills} == {"step", "validation", "checkpoint"}


def test_the_campaign_sees_what_is_wrong(faults: ModuleType, tmp_path: Path) -> None:
    """A run that ended otherwise is not taken for survived."""
    import torch

    for name, weight in (("whole", 1.0), ("same", 1.0), ("other", 1.0 + 2**-20)):
        folder = tmp_path / name / "checkpoints"
        folder.mkdir(parents=True)
        (folder.parent / "summary.json").write_text(json.dumps({"status": "ok", "metrics": {"test/bleu": 1.0}}))
        (folder.parent / "metrics.csv").write_text("step,metric,value\n1,train/loss,2.0\n")
        for file in ("last.ckpt", "best.ckpt"):
            torch.save({"global_step": 1, "state_dict": {"w": torch.tensor([weight])}}, folder / file)
    whole = tmp_path / "whole"
    assert faults.difference(tmp_path / "same", whole) == ""
    assert faults.difference(tmp_path / "other", whole) == "last.ckpt: state_dict is another"
    (tmp_path / "same" / "metrics.csv").write_text("step,metric,value\n1,train/loss,2.1\n")
    assert "metrics.csv" in faults.difference(tmp_path / "same", whole)
    assert list(faults.shares(50)) == [
        ("translation", 15),
        ("translation, 2 processes", 10),
        ("captioning", 10),
        ("classification", 15),
    ]


@pytest.mark.slow
def test_data_that_vanishes_and_a_folder_in_use(tmp_path: Path) -> None:
    """While a run goes on it needs neither files nor cache; a second one in its folder is refused."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    for split, count in (("train", 60), ("validation", 10), ("test", 10)):
        for side in ("en", "de"):
            lines = (f"{side} {number} {'word ' * (number % 7)}" for number in range(count))
            (data / f"{split}.{side}").write_text("\n".join(lines) + "\n")
    small = [word for word in SMALL if not word.startswith("data.")]
    words = ("data=text", f"data.root={data}", "data.source=en", "data.target=de", *small)
    steps = ("trainer.max_steps=1000000", "validation.every=20")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNBUILD_CACHE", str(cache))
        process = start_command("train", *words, *steps, cwd=tmp_path)
        try:
            while not list(tmp_path.glob("outputs/*/*/*/checkpoints/last.ckpt")):
                assert process.poll() is None, (tmp_path / "output.txt").read_text()
                time.sleep(0.1)
            run = only_run(tmp_path)
            shutil.rmtree(cache)
            data.rename(tmp_path / "elsewhere")
            second = run_command("train", f"resume={run}", cwd=tmp_path)
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=PATIENCE) == 130
        finally:
            process.kill()
        assert "Traceback" not in (tmp_path / "output.txt").read_text()
        assert second.code == 1
        assert second.err.strip().endswith("wait for its end, or stop it, or choose another folder")
        assert f"process {process.pid} on" in second.err
        gone = run_command("train", f"resume={run}", cwd=tmp_path)
        assert gone.code == 1
        assert str(data) in gone.err.splitlines()[-1]
        assert "Traceback" not in gone.err
