"""``attnbuild report`` on runs that were trained, not written by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from attnbuild.cli.main import main
from attnbuild.sweeps.job import figures
from attnbuild.sweeps.report.collect import collect
from attnbuild.sweeps.report.columns import Columns
from attnbuild.sweeps.report.curves import read_curves
from attnbuild.sweeps.report.pictures import read_examples
from attnbuild.sweeps.report.reading import Notes
from attnbuild.sweeps.status import Status
from tests.e2e.commands import SMALL
from tests.sweeps.report_runs import write_sweep

ATTENTIONS = ("multihead", "bahdanau")

TINY = ("data.train=60", "data.validation=8", "data.test=8", "tokenizer.vocab_size=300", "model.dim=16")
SHORT = ("trainer.max_steps=2", "validation.every=1", "trainer.log_every=1", "validation.maps=1")


pytestmark = pytest.mark.slow  # it trains; the pages of pretended runs are tested beside it


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained jobs and one that no launcher ever started."""
    folder = write_sweep(tmp_path_factory.mktemp("sweeps") / "attentions", dimensions={"attention": [*ATTENTIONS]})
    for number, attention in enumerate(ATTENTIONS):
        job = folder / f"{number}_{attention}"
        words = (*SMALL, *TINY, *SHORT, f"attention={attention}", f"hydra.run.dir={job}")
        assert main(["train", *words]) == 0
        summary = json.loads((job / "summary.json").read_text(encoding="utf-8"))
        assert summary["status"] == "ok"
        overrides = [f"attention={attention}"]
        Status("ok", number=number, slug=attention, overrides=overrides, figures=figures(summary)).write(job)
    Status("waiting", number=2, overrides=["attention=window"]).write(folder / "2_window")
    return folder


def test_what_was_trained_is_reported(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sweep)]) == 0
    assert "report.html" in capsys.readouterr().out
    with (sweep / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["attention"], row["status"]) for row in rows] == [
        *(("multihead", "ok"), ("bahdanau", "ok"), ("window", "waiting")),
    ]
    for row, attention in zip(rows, ATTENTIONS, strict=False):
        (job,) = sweep.glob(f"*_{attention}")
        summary = json.loads((job / "summary.json").read_text(encoding="utf-8"))
        for name, value in summary["metrics"].items():
            assert float(row[name]) == value
        for name in ("parameters", "peak_memory_mb", "tokens_per_second", "wall_seconds"):
            assert float(row[name]) == summary[name]


def test_curves_and_maps_are_those_of_trainings(sweep: Path) -> None:
    notes = Notes()
    found = collect(sweep)
    curves = read_curves(found.jobs[0].folder / "metrics.csv", ["train/loss", "validation/bleu"], notes)
    assert {name: curve.steps for name, curve in curves.items()} == {"train/loss": [1, 2], "validation/bleu": [1, 2]}
    examples, left_out = read_examples(Columns(found).groups, notes)
    assert (left_out, notes.lines) == (0, [])
    together = next(example for example in examples if example.name == "sentence-0")
    assert [shown.group for shown in together.shown] == ["attention=multihead", "attention=bahdanau"]
    sample = sorted((found.jobs[0].folder / "samples").iterdir())[-1].read_text(encoding="utf-8")
    assert together.text.split("\n")[0] in sample
    assert together.text
