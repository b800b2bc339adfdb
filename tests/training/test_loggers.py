from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from attnbuild import registry
from attnbuild.errors import ConfigError
from attnbuild.training import loggers
from attnbuild.training.loggers import LoggerPlace
from attnbuild.training.run import RunFolder


def build(name: str, folder: Path, step: int = 0) -> Any:
    return registry.build("logger", LoggerPlace(RunFolder(folder), {}, step), {"type": name}, f"logger.{name}")


def test_csv_is_tidy_and_forgets_what_is_made_again(tmp_path: Path) -> None:
    logger = build("csv", tmp_path)
    for step in (1, 2, 3):
        logger.log_metrics({"train/loss": 0.1 / step}, step)
    logger.log_metrics({"validation/bleu": 12.5}, 3)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,train/l")  # cut short by a kill
    again = build("csv", tmp_path, step=2)
    again.log_metrics({"train/loss": 0.5}, 3)
    heading, *rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert heading == ["step", "metric", "value", "seconds"]
    assert [row[:3] for row in rows] == [
        [step, "train/loss", loss] for step, loss in (("1", "0.1"), ("2", "0.05"), ("3", "0.5"))
    ]


def test_time_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    logger = build("csv", tmp_path)
    for step in (1, 2):
        now += 10.0
        logger.log_metrics({"train/loss": 1.0}, step)
    now = 5.0  # another day, another machine
    again = build("csv", tmp_path, step=1)
    now += 2.0
    again.log_metrics({"train/loss": 1.0}, 2)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()[1:]
    assert [float(row.rpartition(",")[2]) for row in rows] == [10.0, 12.0]


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    build("csv", tmp_path).log_metrics({"train/loss": 1.0}, 1)
    build("csv", tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "step,metric,value,seconds\n"


def test_tensorboard_writes_into_the_run_folder(tmp_path: Path) -> None:
    logger = build("tensorboard", tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.finalize("success")
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_package_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"logger.{name}.*pip install attnbuild\[{name}\]") as error:
        build(name, tmp_path)
    assert error.value.exit_code == 2
