"""Captioning and classification as they are typed: trained, killed and resumed, on two processes, asked, explained."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.commands import only_run, run_command
from tests.e2e.test_interruptions import assert_goes_on_as, stop

SMALL = (
    *("model.dim=16", "validation.samples=1", "validation.maps=1", "trainer.threads=1", "batch.rows=8"),
    *("trainer.max_steps=60", "trainer.log_every=1", "validation.every=20"),
)
IMAGES = ("encoder.width=8", "encoder.blocks=[1,1]", "image.channels=1", "augmentation=standard", "augmentation.crop=1")
TASKS = {
    "captioning": (
        *("task=captioning", "recipe=show_attend_tell_hard", "data.train=40", "data.validation=6", "data.test=7"),
        *(*IMAGES, "image.size=32", "search=greedy"),
    ),
    "classification": ("task=classification", *IMAGES, "image.size=8", "task.mixup=0.2", "average=ema"),
    "texts": ("task=classification", "data=cldr_languages", "recipe=word_attention", "average=best3"),
}


@pytest.fixture(scope="module", params=TASKS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[str, ...], Path]:
    """What was typed, and the run folder, moved away from where it was trained."""
    words, folder = (*TASKS[request.param], *SMALL), tmp_path_factory.mktemp(request.param)
    outcome = run_command("train", *words, cwd=folder)
    assert outcome.code == 0, outcome.err
    return words, Path(shutil.move(only_run(folder), folder / "moved"))


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole: tuple[tuple[str, ...], Path], tmp_path: Path) -> None:
    """Augmentation, draws of captions and cells, mixtures and running statistics repeat themselves."""
    words, run = whole
    stop(signal.SIGKILL, words, tmp_path)
    assert_goes_on_as(run, only_run(tmp_path))


@pytest.mark.slow
def test_two_processes_score_each_image_once(whole: tuple[tuple[str, ...], Path], tmp_path: Path) -> None:
    words, run = whole
    few = ("trainer=ddp_sim", "trainer.max_steps=4", "validation.every=4")
    outcome = run_command("train", *words, *few, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    together = only_run(tmp_path)
    counts = []
    for folder in (run, together):
        lines = (folder / "predictions-test.jsonl").read_text(encoding="utf-8").splitlines()
        counts.append([json.loads(line)["index"] for line in lines])
    assert counts[0] == counts[1] == list(range(len(counts[0])))
    summary = json.loads((together / "summary.json").read_text())
    assert summary["baselines"]
    assert {name.removeprefix("test/") for name in summary["metrics"]} >= set(summary["baselines"])


@pytest.mark.parametrize("whole", ["captioning", "classification"], indirect=True)
def test_predictions_and_pictures_of_a_folder(whole: tuple[tuple[str, ...], Path], tmp_path: Path) -> None:
    words, run = whole
    photos = tmp_path / "photos"
    photos.mkdir()
    draw = np.random.default_rng(0)
    for name in ("b.png", "a.jpg"):
        Image.fromarray(draw.integers(0, 255, (20, 30, 3), np.uint8)).save(photos / name)
    asked = ("predict", f"run={run}", f"input={photos}", f"output={tmp_path / 'out.jsonl'}", "explain=seen")
    outcome = run_command(*asked, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Path(one["source"]).name for one in found] == ["a.jpg", "b.png"]
    if "task=classification" in words:
        assert all(abs(sum(share for _, share in one["n_best"]) - 1) < 1e-4 for one in found)
        assert (run / "confusion.png").is_file()
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["0-a.png", "1-b.png"]
    (photos / "c.png").write_bytes(b"")
    outcome = run_command(*asked[:3], "output=out.csv", cwd=tmp_path)
    assert outcome.code == 1
    assert "1 of 3 images could not be read" in outcome.err
    assert "c.png" in outcome.err
    assert "Traceback" not in outcome.err
    heading, *rows = csv.reader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines())
    assert len(rows) == 3
    labels = len(found[0]["n_best"]) if "task=classification" in words else 0
    assert len(heading) == 4 + labels
    if labels:  # the unreadable one has none
        assert [abs(sum(map(float, row[4:])) - 1) < 1e-4 for row in rows[:2]] == [True, True]
        assert rows[2][4:] == [""] * labels
    (photos / "a.jpg").unlink()
    (photos / "b.png").unlink()
    outcome = run_command(*asked[:3], "explain=seen", cwd=tmp_path)
    assert "1 of 1 images could not be read" in outcome.err
    assert "nothing to draw" not in outcome.err
