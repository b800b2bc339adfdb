from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attnbuild.errors import AttnbuildError, CheckpointError, ConfigError
from attnbuild.training.averaging import Average, MovingAverage, average_checkpoints, constants, parse_average
from attnbuild.training.checkpoint import load_checkpoint, model_weights, save_checkpoint
from attnbuild.training.fit import train
from attnbuild.training.run import RunFolder
from attnbuild.training.stopping import Stopping

Config = dict[str, Any]


def test_run_folder_explains_itself(config: Config, run: RunFolder) -> None:
    config["logger"]["tensorboard"] = {}
    summary = train(config, run, ["optimizer.lr=0.02"])
    assert summary == json.loads(run.summary_file.read_text())
    assert summary["status"] == "ok"
    assert summary["task"] == "fake"
    assert summary["overrides"] == ["optimizer.lr=0.02"]
    assert summary["search"] == {"validation": "greedy", "test": "greedy"}
    assert summary["signatures"] == {"bleu": "tokens|fake"}
    assert summary["parameters"] == 11 * 16 + 2 * 16 + 16 * 11 + 11
    assert summary["tokens_per_second"] > 0
    assert summary["peak_memory_mb"] > 0
    assert summary["wall_seconds"] > 0
    assert {"python", "torch", "lightning"} <= set(summary["versions"])
    metrics = summary["metrics"]
    assert metrics["validation/bleu"] == pytest.approx(100 * metrics["validation/accuracy"])
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/loss"]))
    assert run.read_config() == config
    assert (run.path / "tokenizer.json").read_text() == "numbers"
    assert sorted(path.name for path in run.samples.iterdir()) == [f"step-{n:06d}.txt" for n in (4, 8, 12)]
    assert "prediction  " in (run.samples / "step-000004.txt").read_text()
    assert "validation: loss" in run.log_file.read_text()
    predictions = [json.loads(line) for line in (run.path / "predictions-test.jsonl").open()]
    assert [prediction["index"] for prediction in predictions] == list(range(21))


def test_validation_says_the_best_of_all(config: Config, run: RunFolder) -> None:
    summary = train(config, run, [])
    rows = [line.split(",") for line in run.metrics_file.read_text().splitlines()]
    scores = [float(row[2]) for row in rows if row[1] == "validation/bleu"]
    assert summary["metrics"]["validation/bleu"] == max(scores)


@pytest.mark.parametrize("average", ["best5", "last5", "ema"])
def test_average_is_reported_beside_the_best(config: Config, run: RunFolder, average: str) -> None:
    config["average"] = average
    config["trainer"]["max_steps"] = 26
    summary = train(config, run, [])
    metrics = summary["metrics"]
    better = metrics["validation/bleu_averaged"] > metrics["validation/bleu"]
    assert summary["checkpoint"] == ("averaged.ckpt" if better else "best.ckpt")
    kept = sorted(path.name for path in run.checkpoints.glob("step-*"))
    assert len(kept) == (1 if average == "ema" else 5)
    if average == "last5":
        assert kept == [f"step-{n:08d}.ckpt" for n in (12, 16, 20, 24, 26)]
    averaged = model_weights(load_checkpoint(run.averaged_checkpoint))
    parts = [model_weights(load_checkpoint(run.checkpoints / name)) for name in kept]
    for name, value in averaged.items():
        torch.testing.assert_close(value, torch.stack([part[name] for part in parts]).mean(0))


def test_moving_average_is_what_it_says(config: Config, run: RunFolder) -> None:
    """One validation at the end of three updates; the average is computed anew from the weights of each."""
    config["average"] = "ema"
    history = {}
    for steps in (1, 2, 3):
        config["trainer"]["max_steps"] = steps
        train(copy.deepcopy(config), run, [])
        history[steps] = model_weights(load_checkpoint(run.last_checkpoint))
    torch.manual_seed(config["seed"])
    from fake_task import FakeModel

    expected = FakeModel(0.0).state_dict()
    for step, weights in history.items():
        kept = min(0.999, (1 + step) / (10 + step))
        expected = {name: kept * value + (1 - kept) * weights[name] for name, value in expected.items()}
    torch.testing.assert_close(model_weights(load_checkpoint(run.averaged_checkpoint)), expected)


def test_average_checkpoints_keeps_whole_numbers(tmp_path: Path) -> None:
    paths = []
    for number in (1, 4):
        state = {"model.w": torch.full((2,), float(number)), "model.n": torch.tensor(number)}
        state["model.features"] = torch.tensor([float(number)])
        paths.append(tmp_path / f"{number}.ckpt")
        own = {"schema": 1, "config": {}, "artifacts": {}, "step": 1, "constants": ["model.features"]}
        save_checkpoint({"attnbuild": own, "state_dict": state}, paths[-1])
    weights = average_checkpoints(paths)["state_dict"]
    assert weights["model.w"].tolist() == [2.5, 2.5]
    assert weights["model.n"] == 1
    assert weights["model.features"] == 1


def test_running_statistics_are_averaged_and_other_buffers_are_not() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Module())
    module[1].register_buffer("features", torch.ones(1))
    assert constants(module) == ["1.features"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", None), ("ema", Average("ema", 1)), ("best5", Average("best", 5)), ("last12", Average("last", 12))],
)
def test_parse_average(text: str, expected: Average | None) -> None:
    assert parse_average(text) == expected


@pytest.mark.parametrize("text", ["best", "best0", "worst5", ""])
def test_unknown_average(text: str) -> None:
    with pytest.raises(ConfigError, match="expected none, ema, bestN or lastN"):
        parse_average(text)


def test_early_stopping(config: Config, run: RunFolder) -> None:
    config["optimizer"] = {"type": "sgd", "lr": 1e-12}
    config["callbacks"] = {"early_stopping": {"patience": 2}, "never": None}
    config["trainer"]["max_steps"] = 100
    train(config, run, [])
    assert load_checkpoint(run.last_checkpoint)["global_step"] == 12


def test_max_minutes_ends_with_a_validation(config: Config, run: RunFolder) -> None:
    config["trainer"] |= {"max_minutes": 0.005, "max_steps": 10**6, "accumulate": 2}
    config["task"]["seconds"] = 0.03
    config["validation"]["every"] = 1000
    summary = train(config, run, [])
    step = load_checkpoint(run.last_checkpoint)["global_step"]
    assert 0 < step < 12
    assert f"\n{step},validation/bleu," in run.metrics_file.read_text()
    assert summary["status"] == "ok"


def test_a_rate_that_decays_is_down_when_the_minutes_are_over(
    config: Config, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["trainer"] |= {"max_minutes": 10 / 60, "max_steps": 10**6}
    config["scheduler"] = {"type": "linear", "warmup": 0}
    config["validation"]["every"] = 1000
    seconds = iter(range(1, 1000))  # one an update
    monkeypatch.setattr(Stopping, "seconds", property(lambda self: next(seconds)))
    train(config, run, [])
    rows = [line.split(",") for line in run.metrics_file.read_text().splitlines()]
    rates = [float(row[2]) for row in rows if row[1] == "train/learning_rate"]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.3 * config["optimizer"]["lr"]


@pytest.mark.parametrize("as_file", [False, True])
def test_init_from(config: Config, run: RunFolder, tmp_path: Path, as_file: bool) -> None:
    train(copy.deepcopy(config), run, [])
    config["init_from"] = str(run.best_checkpoint if as_file else run.path)
    config["optimizer"] = {"type": "sgd", "lr": 1e-12}
    summary = train(config, RunFolder(tmp_path / "next"), [])
    assert summary["not_loaded"] == []
    assert summary["metrics"] == pytest.approx(run.read_summary()["metrics"])


def test_init_from_names_what_did_not_match(config: Config, run: RunFolder, tmp_path: Path) -> None:
    train(copy.deepcopy(config), run, [])
    checkpoint = load_checkpoint(run.best_checkpoint)
    checkpoint["state_dict"]["model.output.bias"] = torch.zeros(3)
    del checkpoint["state_dict"]["model.norm.bias"]
    save_checkpoint(checkpoint, run.best_checkpoint)
    config["init_from"] = str(run.path)
    second = RunFolder(tmp_path / "next")
    assert train(config, second, [])["not_loaded"] == ["norm.bias", "output.bias"]
    assert "norm.bias, output.bias" in second.log_file.read_text()
    checkpoint["state_dict"] = {}
    save_checkpoint(checkpoint, run.best_checkpoint)
    with pytest.raises(CheckpointError, match="no tensor matches this model"):
        train(config, second, [])
    assert second.read_summary()["status"] == "failed"


def test_overfit_repeats_the_first_batch(config: Config, run: RunFolder) -> None:
    config["trainer"] |= {"overfit_batches": 1, "max_steps": 60}
    config["task"]["dropout"] = 0.0
    train(config, run, [])
    rows = [line.split(",") for line in run.metrics_file.read_text().splitlines()]
    losses = [float(row[2]) for row in rows if row[1] == "train/loss"]
    assert losses[-1] < 0.5 * losses[9] < losses[0]


def test_profiler_and_limits(config: Config, run: RunFolder) -> None:
    config["trainer"] |= {"profiler": "simple", "limit_eval_batches": 2, "max_steps": 2}
    config["validation"]["every"] = 1
    train(config, run, [])
    assert len((run.path / "predictions-test.jsonl").read_text().splitlines()) == 10
    assert any("run_training_batch" in path.read_text() for path in run.path.glob("*profile*.txt"))


def test_loss_that_is_no_number(config: Config, run: RunFolder) -> None:
    config["optimizer"] = {"type": "sgd", "lr": 1e30}
    config["trainer"] |= {"clip": None}
    with pytest.raises(AttnbuildError, match=r"the training loss is (nan|inf) at step \d+; lower optimizer.lr"):
        train(config, run, [])
    summary = run.read_summary()
    assert summary["status"] == "failed"
    assert "the training loss" in summary["error"]


def test_lines_and_no_warnings_on_the_way(
    config: Config, run: RunFolder, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    train(config, run, [])
    captured = capsys.readouterr()
    assert captured.out == ""
    for word in ("GPU", "Tip", "deprecated", "workers"):
        assert word not in captured.err
    assert "step 8/12  validation: loss" in captured.err


def test_machine_without_gpu_says_so(config: Config, run: RunFolder) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    config["trainer"]["accelerator"] = "gpu"
    with pytest.raises(ConfigError, match=r"trainer.*No supported gpu backend found"):
        train(config, run, [])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_trains_with_clipping(config: Config, run: RunFolder, precision: str) -> None:
    config["trainer"] |= {"precision": precision, "clip": 0.5, "max_steps": 20}
    summary = train(config, run, [])
    assert summary["status"] == "ok"
    assert summary["metrics"]["test/loss"] < math.log(11)


def test_the_moving_average_is_of_weights_and_running_statistics() -> None:
    norm, other = torch.nn.BatchNorm1d(2), torch.nn.Module()
    other.register_buffer("features", torch.ones(1))
    module = torch.nn.Sequential(norm, other)
    average = MovingAverage(decay=0.5)
    module.device = torch.device("cpu")
    trainer = SimpleNamespace(global_step=0)
    average.on_train_start(trainer, module)
    for step in (1, 2, 3):
        trainer.global_step = step
        with torch.no_grad():
            for value in (norm.weight, norm.running_mean, other.features):
                value.fill_(10.0 * step)
        average.on_train_batch_end(trainer, module, None, None, 0)
    expected = {"weight": 1.0, "running_mean": 0.0}
    for step in (1, 2, 3):
        kept = min(0.5, (1 + step) / (10 + step))
        expected = {name: kept * value + (1 - kept) * 10 * step for name, value in expected.items()}
    with average.applied(module):
        for name, value in expected.items():
            torch.testing.assert_close(getattr(norm, name).detach(), torch.full((2,), value))
        assert other.features == 30
    assert norm.running_mean[0] == 30
