"""The demo: it translates, explains itself, and its run folder is all that is needed afterwards."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import yaml
from matplotlib.image import imread

import attnbuild
from tests.e2e.commands import Outcome, run_command

SUMMARY = {
    *("task", "status", "metrics", "places", "parameters", "wall_seconds", "tokens_per_second"),
    *("peak_memory_mb", "overrides", "versions"),
}


@pytest.fixture(scope="module")
def tested(demo_run: Path) -> list[dict[str, Any]]:
    """What the run predicted of its test split: text, reference and source of each sentence."""
    return predictions(demo_run / "predictions-test.jsonl")


@pytest.fixture
def predict(demo_run: Path, tmp_path: Path) -> Any:
    """Type ``predict`` elsewhere, with an empty cache and nothing of the training but its run folder."""

    def type_predict(*words: str, input: str | None = None) -> Outcome:
        cache = {"ATTNBUILD_CACHE": str(tmp_path / "cache")}
        return run_command("predict", f"run={demo_run}", *words, cwd=tmp_path, input=input, environment=cache)

    return type_predict


@pytest.fixture
def copy_of_demo(demo_run: Path, tmp_path: Path) -> Path:
    """The run, for tests that write into its folder."""
    return shutil.copytree(demo_run, tmp_path / "run")


def predictions(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def bleu(rows: list[dict[str, Any]]) -> float:
    return sacrebleu.corpus_bleu([row["text"] for row in rows], [[row["reference"] for row in rows]]).score


def test_it_translates(demo_run: Path, tested: list[dict[str, Any]]) -> None:
    summary = json.loads((demo_run / "summary.json").read_text())
    assert summary["metrics"]["test/bleu"] > 60
    assert summary["metrics"]["test/bleu"] == pytest.approx(bleu(tested), abs=1e-9)
    assert "tok:13a" in summary["signatures"]["bleu"]
    assert summary["search"] == {"validation": "greedy", "test": "beam5"}
    assert [row["index"] for row in tested] == list(range(100))


def test_the_summary_is_whole(demo_run: Path, demo_words: tuple[str, ...]) -> None:
    summary = json.loads((demo_run / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert summary["task"] == "translation"
    assert summary["status"] == "ok"
    assert set(summary["places"]) == {"encoder.attention", "decoder.self_attention", "decoder.cross_attention"}
    assert summary["overrides"] == list(demo_words)
    assert {"attnbuild", "torch", "lightning", "python"} <= set(summary["versions"])
    assert all(summary[name] > 0 for name in ("parameters", "wall_seconds", "tokens_per_second", "peak_memory_mb"))


def test_the_folder_explains_itself(demo_run: Path, demo_words: tuple[str, ...]) -> None:
    config = yaml.safe_load((demo_run / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 360
    assert "${" not in (demo_run / "config.yaml").read_text()
    assert yaml.safe_load((demo_run / "overrides.yaml").read_text()) == list(demo_words)
    with (demo_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"train/loss", "validation/bleu", "test/bleu"} <= {row["metric"] for row in rows}
    assert list(demo_run.glob("tensorboard/events.out.tfevents.*"))
    samples = sorted(demo_run.glob("samples/step-*.txt"))
    assert [file.stem for file in samples] == ["step-000120", "step-000240", "step-000360"]
    assert "reference" in samples[-1].read_text(encoding="utf-8")
    assert "test (beam5)" in (demo_run / "log.txt").read_text(encoding="utf-8")
    assert {"last.ckpt", "best.ckpt", "averaged.ckpt"} <= {file.name for file in demo_run.glob("checkpoints/*")}


def test_the_maps_are_pictures(demo_run: Path) -> None:
    files = sorted(demo_run.glob("maps/*.png"))
    assert [file.stem for file in files] == [f"sentence-{n}{kind}" for n in (0, 33, 66) for kind in ("", "_heads")]
    for file in files:
        height, width, channels = imread(file).shape
        assert min(height, width) > 50
        assert channels in (3, 4)


def test_predict_from_file_to_file(predict: Any, tested: list[dict[str, Any]], tmp_path: Path) -> None:
    sources = [row["source"] for row in tested]
    texts = [row["text"] for row in tested]
    (tmp_path / "in.txt").write_text("\n".join([*sources[:7], "", *sources[7:]]) + "\n", encoding="utf-8")
    outcome = predict("input=in.txt", "output=out.txt")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").split("\n") == [*texts[:7], "", *texts[7:], ""]
    assert not (tmp_path / "cache").exists()


def test_predict_from_stream_to_stream(predict: Any, tested: list[dict[str, Any]]) -> None:
    typed = [tested[2]["source"], "", tested[0]["source"], tested[1]["source"]]
    outcome = predict("input=-", "output=-", input="\n".join(typed))
    assert outcome.code == 0, outcome.err
    assert outcome.out.split("\n") == [tested[2]["text"], "", tested[0]["text"], tested[1]["text"], ""]


def test_load_in_python(demo_run: Path, tested: list[dict[str, Any]]) -> None:
    loaded = attnbuild.load(demo_run)
    search = loaded.task.search(loaded.config["search"])
    outputs = loaded.task.predict(loaded.model, [row["source"] for row in tested[:5]], search)
    assert [output.text for output in outputs] == [row["text"] for row in tested[:5]]


def test_score_by_another_search(copy_of_demo: Path, tmp_path: Path) -> None:
    outcome = run_command("test", f"run={copy_of_demo}", "search=greedy", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    result = json.loads((copy_of_demo / "test-1.json").read_text())
    assert result["search"] == {"test": "greedy"}
    assert result["metrics"]["test/bleu"] == pytest.approx(
        bleu(predictions(copy_of_demo / "predictions-test-1.jsonl")), abs=1e-9
    )
    assert f"test/bleu  {result['metrics']['test/bleu']:.4g}" in outcome.out


def test_score_on_other_data(copy_of_demo: Path, tested: list[dict[str, Any]], tmp_path: Path) -> None:
    rows = tested[10:21]
    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("en", "de"), *((row["source"], row["reference"]) for row in rows)])
    words = ("data=table", "data.test=mine.csv", "data.source=en", "data.target=de")
    outcome = run_command("test", f"run={copy_of_demo}", *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    (file,) = copy_of_demo.glob("test-*.json")
    assert json.loads(file.read_text())["metrics"]["test/bleu"] == pytest.approx(bleu(rows), abs=1e-9)
