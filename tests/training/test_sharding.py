"""Parameters spread over the ranks train as whole ones do, and leave the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attnbuild
from attnbuild.errors import ConfigError
from attnbuild.training.checkpoint import load_checkpoint
from attnbuild.training.sharding import layers_of, local, saved, sliced, whole
from attnbuild.training.trainer import build_trainer
from tests.e2e.commands import SMALL, only_run, run_command
from tests.training.two_ranks import ALIKE, MIDDLE, TASKS, composed, outcomes_of

ALL = [*TASKS, *ALIKE]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return outcomes_of(tmp_path_factory)


@pytest.fixture(scope="module")
def outcomes(trainings: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return trainings[1]


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    """Nested dicts and lists of tensors and values are equal, numbers nearly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_equal(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, value in enumerate(expected):
            assert_equal(found[place], value, f"{where}.{place}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6, msg=lambda message: f"{where}: {message}")
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", ALL)
def test_each_rank_holds_its_slices_alone(outcomes: dict[str, Any], name: str) -> None:
    ranks = [outcomes[f"{name}-fsdp-{rank}"] for rank in (0, 1)]
    assert all(rank["sliced"] for rank in ranks)
    size = sum(gradient.numel() for gradient in ranks[0]["gradient"].values())
    assert sum(rank["held"] for rank in ranks) == size
    assert max(rank["held"] for rank in ranks) < 0.51 * size
    whole_ones = outcomes[f"{name}-ddp-0"]
    assert not whole_ones["sliced"]
    assert whole_ones["held"] == size


@pytest.mark.parametrize("name", ALL)
def test_trains_as_ddp_does(outcomes: dict[str, Any], name: str) -> None:
    """Losses, first gradient, weights, running statistics, scores; generation on as many batches as a rank has."""
    for rank in (0, 1):
        ddp, fsdp = (outcomes[f"{name}-{strategy}-{rank}"] for strategy in ("ddp", "fsdp"))
        assert fsdp["losses"] == pytest.approx(ddp["losses"], rel=1e-5)
        assert fsdp["predicted"] == ddp["predicted"]
        assert fsdp["seeds"] == ddp["seeds"]
        for part in ("validation", "test"):
            assert fsdp[part] == pytest.approx(ddp[part], rel=1e-5, abs=1e-6)
        assert_equal(fsdp["gradient"], ddp["gradient"])
        assert_equal(fsdp["weights"], ddp["weights"])


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "step-00000004.ckpt"])
def test_leaves_the_files_of_one_process(trainings: tuple[Path, dict[str, Any]], name: str) -> None:
    """Weights, moving average and optimiser state: whole, under the same names and numbers."""
    one, ddp, fsdp = (
        load_checkpoint(trainings[0] / folder / "checkpoints" / name) for folder in ("adam", "adam-ddp", "adam-fsdp")
    )
    for other in (one, ddp):
        assert_equal(fsdp["state_dict"], other["state_dict"])
        if name == "last.ckpt":
            assert_equal(fsdp["optimizer_states"], other["optimizer_states"])
            assert_equal(fsdp["callbacks"]["MovingAverage"], other["callbacks"]["MovingAverage"])
        assert fsdp.keys() == other.keys()
    assert fsdp["attnbuild"]["step"] * 2 == fsdp["attnbuild"]["taken"] == one["attnbuild"]["taken"]
    storage = [value.untyped_storage().data_ptr() for value in fsdp["state_dict"].values()]
    assert len(set(storage)) == len(storage) - 2  # three names of the tied embedding


def test_averages_are_not_the_last_weights(trainings: tuple[Path, dict[str, Any]]) -> None:
    last, average = (
        load_checkpoint(trainings[0] / "adam-fsdp" / "checkpoints" / name)["state_dict"]
        for name in ("last.ckpt", "step-00000004.ckpt")
    )
    assert any((last[name] - average[name]).abs().max() > 1e-4 for name in last)


def test_one_process_reads_them(trainings: tuple[Path, dict[str, Any]]) -> None:
    folder, outcomes = trainings
    model = attnbuild.load(folder / "translation-fsdp" / "checkpoints" / "last.ckpt").model
    assert_equal(dict(model.state_dict()), dict(outcomes["translation-fsdp-0"]["weights"]))


@pytest.mark.parametrize("name", ["adam-resumed", "adam-resumed-0", "adam-resumed-1"])
def test_goes_on_with_another_number_of_ranks(outcomes: dict[str, Any], name: str) -> None:
    """From two to one and from one to two: with the batches that none has taken, and the state of the optimiser."""
    expected = outcomes["adam-alone"]
    assert outcomes[name]["losses"] == pytest.approx(expected["losses"][MIDDLE:], rel=1e-5)
    assert_equal(outcomes[name]["weights"], expected["weights"])


def test_layers_are_gathered_one_by_one() -> None:
    from attnbuild.training.checkpoint import build_task

    found = {}
    for name in ("translation", "captioning", "cnn", "hard"):
        task = build_task(composed((TASKS | ALIKE)[name]))
        task.prepare(())
        model = task.build_model() if name != "cnn" else nn.Sequential(nn.Linear(2, 2))
        names = {module: name for name, module in model.named_modules()}
        found[name] = [names[layer] for layer in layers_of(model)]
    layers = ["encoder.layers.0", "encoder.layers.1"]
    assert found["translation"] == [*layers, "decoder.layers.0", "decoder.layers.1"]
    assert found["captioning"] == layers  # the decoder's cells run at every word
    assert found["cnn"] == found["hard"] == []


def test_whole_tensors_stay_as_they_are() -> None:
    tensor = torch.arange(3.0, requires_grad=True)
    for made in (whole(tensor), local(tensor), saved(tensor)):
        assert made.data_ptr() == tensor.data_ptr()
        assert not made.requires_grad
    assert sliced(tensor, tensor) is tensor


def test_one_device_needs_no_slices(tmp_path: Path) -> None:
    from attnbuild.training.sharding import FullySharded

    config = composed(TASKS["translation"])
    config["trainer"]["strategy"] = "fsdp"
    assert not isinstance(build_trainer(config, tmp_path).strategy, FullySharded)


def test_precisions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    config = composed(TASKS["translation"])
    config["trainer"] |= {"strategy": "fsdp", "devices": 2, "precision": "16-mixed"}
    with pytest.raises(ConfigError, match="fsdp trains in 32-true, bf16-mixed, bf16-true, not in '16-mixed'"):
        build_trainer(config, tmp_path)


def test_the_preset_says_what_it_is() -> None:
    section = composed(("trainer=fsdp",))["trainer"]
    cpu = composed(())["trainer"]
    changed = {key: value for key, value in section.items() if value != cpu[key]}
    assert changed == {"accelerator": "gpu", "devices": "auto", "strategy": "fsdp", "precision": "bf16-mixed"}


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    """Trained by two processes in bfloat16, gone on with by two, and read by one."""
    words = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "validation.maps=1", "average=best5")
    few = (*SMALL, "trainer.max_steps=4", "validation.every=2", "data.validation=3", "data.test=41")
    outcome = run_command("train", *few, *words, cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    run = only_run(tmp_path)
    outcome = run_command("train", f"resume={run}", "trainer.max_steps=8", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "step 8/8" in outcome.err
    (tmp_path / "lines.txt").write_text("a dog\nthree weeks\n")
    outcome = run_command("predict", f"run={run}", "input=lines.txt", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_on_gpus(tmp_path: Path, precision: str) -> None:
    curves = []
    for strategy in ("ddp", "fsdp"):
        words = (f"trainer={strategy}", f"trainer.precision={precision}", "trainer.devices=2", "average=ema")
        few = (*SMALL, "trainer.max_steps=6", "validation.every=3", "trainer.log_every=1", "model.dropout=0")
        place = tmp_path / strategy
        place.mkdir()
        outcome = run_command("train", *few, *words, cwd=place)
        assert outcome.code == 0, outcome.err
        lines = (only_run(place) / "metrics.csv").read_text().splitlines()
        curves.append([float(line.split(",")[2]) for line in lines if ",train/loss," in line])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5 if precision == "32-true" else 2e-2)
