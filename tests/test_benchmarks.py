"""Benchmarks run in pieces that add up, survive what breaks, and race what computes the same."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbuild.cli.check import check_config
from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.training.checkpoint import Loaded, build_task
from tests.composing import config_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[dict, str]]:
    """Run some jobs at tiny lengths; gives the record and the page."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(importlib.import_module("attention_peers"), "CHECKED", 64)
    page = tmp_path / "attention.md"

    def run(*words: str) -> tuple[dict, str]:
        importlib.import_module("attention").main([*words, "--repeats", "1", "--page", str(page)])
        return json.loads(page.with_suffix(".json").read_text(encoding="utf-8")), page.read_text(encoding="utf-8")

    return run


def cells(record: dict) -> set[tuple[str, str]]:
    return {(row["case"], row["system"]) for row in record["rows"]}


def test_pieces_add_up(measure: Callable[..., tuple[dict, str]]) -> None:
    measure("multihead", "--lengths", "64", "128")
    record, page = measure("multihead causal", "--lengths", "64")
    assert {("multihead on heads 128", "torch SDPA"), ("multihead causal on heads 64", "attnbuild")} <= cells(record)
    assert {"case", "system", "metric", "value", "unit"} == record["rows"][0].keys()
    assert record["checks"]["multihead on heads"].startswith("equal outputs and gradients")
    assert "### multihead causal on heads" in page
    assert "| window=128 at 16384: times as fast as dense SDPA | >= 20, aim 32 | - | not measured |" in page


def test_what_breaks_is_told(measure: Callable[..., tuple[dict, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    peers = importlib.import_module("attention_peers")

    def broken(length: int) -> None:
        raise RuntimeError("does not import")

    def differ() -> str:
        raise AssertionError("outputs differ")

    match = peers.Match("multihead", {peers.OURS: peers.on_heads("multihead"), "peer": broken}, check=differ)
    for module in (peers, importlib.import_module("attention_page"), importlib.import_module("attention")):
        monkeypatch.setattr(module, "MATCHES", [match])
    record, page = measure("multihead", "--lengths", "64")
    assert cells(record) == {("multihead on heads 64", "attnbuild")}
    assert "- multihead on heads 64, peer: RuntimeError: does not import" in page
    assert "NOT EQUAL: AssertionError: outputs differ" in page


@pytest.mark.slow
def test_peers_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every equality that the benchmark asserts before it races."""
    pytest.importorskip("local_attention")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for match in importlib.import_module("attention_peers").MATCHES:
        match.check()


def trainings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, tuple[str, ...]]:
    """What all benchmarks that train would type, without the seed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    quality, classes, captions = map(importlib.import_module, ("attention_quality", "classification", "ucm_captions"))
    runs = [run for _, _, seed, run in quality.all_runs(folder, list(quality.GROUPS)) if seed == 1]
    runs += [run for case in classes.CASES for _, seed, run in classes.runs_of(case, folder) if seed == 1]
    runs += [captions.run_of(recipe, folder) for recipe in captions.RECIPES]
    return {run.name: run.words for run in runs}


def test_what_benchmarks_train_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = trainings(monkeypatch, tmp_path)
    assert len(asked) > 60
    with open_loader() as loader:
        for name, words in asked.items():
            config = compose(loader, check_names(loader, list(words)))
            assert check_config(resolve(config, config.hydra.runtime.choices)) == [], name


def test_joined_news_holds_no_text_twice_across_splits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real_data: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("ATTNBUILD_DATA", str(real_data))
    joined_news = importlib.import_module("joined_news")
    joined_news.join_news(tmp_path / "news")
    rows = {}
    for split in ("train", "validation", "test"):
        with (tmp_path / "news" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            rows[split] = [(row["label"], row["text"]) for row in csv.DictReader(file)]
    assert {split: len(found) for split, found in rows.items()} == {"train": 8000, "validation": 500, "test": 1900}
    lengths = [len(text.encode()) for _, text in rows["test"]]
    assert 700 < sum(lengths) / len(lengths) < 900
    news = joined_news.read_news("agnews_desc_test_official.csv")
    joined = " ".join(text for _, text in rows["test"])
    assert all(text in joined for _, text in news[:200]), "every test text is in one of the joined ones"


@pytest.mark.parametrize("peer", ["Transformers", "Joey", "CTranslate"])
def test_searches_of_peers_write_the_same(peer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Greedily, with the weights of one model."""
    if peer == "Joey":
        pytest.importorskip("joeynmt.search", reason="JoeyNMT asks for packages that no longer go together")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    peers = importlib.import_module("generation_peers")
    words = ["encoder.norm=post", "decoder.norm=post", "model.dim=32", "encoder.layers=2", "decoder.layers=2"]
    config = config_of([*words, "data.train=200", "tokenizer.vocab_size=300"])
    task: Any = build_task(config)
    task.prepare(("train",))
    torch.manual_seed(3)
    model = task.build_model().eval()
    with torch.no_grad():  # weights that make something of each sentence, and biases of every layer
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embedding" not in name:
                parameter.mul_(6)
    loaded = Loaded(task, model, config)
    sources = [row.tolist() for row in task.corpora["train"].rows(list(range(24)))[0]]
    ours, theirs = (getattr(peers, racer)(loaded, tmp_path).search(sources, 1, 8) for racer in ("Ours", peer))
    assert len({tuple(tokens) for tokens in ours}) > 5
    assert theirs == ours


def test_page_of_attention_quality_shows_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pages = importlib.import_module("attention_quality_page")
    scored = {"loss": 2.0, "chrf": 40.0, "parameters": 2_000_000}
    figures = pages.Figures(
        runs={"rnn": {"none": {"1": {"bleu": 10.0, **scored}, "2": {"bleu": 12.0, **scored}}}},
        speeds={"rnn": {"none": [900.0, 1000.0, 5000.0]}},
    )
    pages.write_page(figures, tmp_path / "page.md")
    assert "| none | 11.0 ± 1.0 | 2.00 | 2.00 M | 1000 |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.png").exists()
    assert pages.Figures.kept_in(tmp_path / "page.md") == figures


@pytest.mark.slow
def test_the_start_of_typed_commands_is_timed(tmp_path: Path) -> None:
    page = tmp_path / "startup.md"
    subprocess.run([sys.executable, BENCHMARKS / "startup.py", "--rounds", "1", "--page", page], check=True)
    values = {row["case"]: row["value"] for row in json.loads(page.with_suffix(".json").read_text())["rows"]}
    assert set(values) == {"transformer", "rnn", "cnn"}
    assert all(value > 0 for value in values.values())


def test_training_of_the_gpu_benchmark_runs_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu = importlib.import_module("gpu")
    for name, value in {"DIM": 32, "FEEDFORWARD": 64, "LAYERS": 1, "HEADS": 2, "SQUARE": 64, "ROUNDS": 2}.items():
        monkeypatch.setattr(gpu, name, value)
    words = ["model.dim=32", "encoder.norm=post", "decoder.norm=post", "attention.heads=2", "batch.tokens=256"]
    found = gpu.training(config_of([*words, "data.train=200", "tokenizer.vocab_size=300"]), torch.device("cpu"))
    values = {(row["system"], row["metric"]): row["value"] for row in found}
    assert values["attnbuild", "utilisation"] > 0
    speeds = [value for (_, metric), value in values.items() if metric == "target_tokens_per_second"]
    assert len(speeds) == 3
    assert min(speeds) > 0
