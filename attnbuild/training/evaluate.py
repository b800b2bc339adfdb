"""Scoring a trained model on a test set, its own or another: ``test_run``."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from attnbuild.errors import DataError
from attnbuild.training.changes import changed
from attnbuild.training.checkpoint import Loaded, load
from attnbuild.training.logs import messages
from attnbuild.training.module import Module
from attnbuild.training.out_of_memory import out_of_memory_told
from attnbuild.training.progress import render_values
from attnbuild.training.run import RunFolder, atomic_writer, home_of
from attnbuild.training.signals import interrupts_kept
from attnbuild.training.task import Prediction
from attnbuild.training.trainer import build_trainer

__all__ = ["test_run", "write_predictions"]

_log = logging.getLogger(__name__)


def test_run(run: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Score the chosen checkpoint of a run on the test split.

    The result is also written into the run folder, as test-1.json, test-2.json, ..., and what was
    predicted beside it, as predictions-test-1.jsonl.

    Args:
        run: a run folder, or a ``.ckpt`` file of one.
        changes: sections of the config to do otherwise, as ``{"search": {"type": "beam", "beam": 10}}``.

    Returns:
        ``metrics``, ``signatures``, ``search`` and ``changes``.

    Raises:
        DataError: the data has no test split.
    """
    folder = RunFolder(home_of(run))
    with messages(folder):
        return _test(folder, changed(load(run, changes.get("plugins")), changes), changes)


def _test(folder: RunFolder, loaded: Loaded, changes: dict[str, Any]) -> dict[str, Any]:
    task, config = loaded.task, loaded.config
    if "test" not in task.splits():
        raise DataError(f"the data has no split 'test'; it has {', '.join(task.splits())}")
    task.prepare(("test",))
    config = {**config, "trainer": {**config["trainer"], "devices": 1}}
    module = Module(task, loaded.model, config)
    with interrupts_kept(), out_of_memory_told(module.under_way):
        build_trainer(config, folder.path).test(module, verbose=False)
    result = {
        "metrics": module.results,
        "signatures": module.signatures,
        "search": {"test": module.search_description},
        "changes": changes,
    }
    file = folder.next_file("test-%d.json")
    folder.write_text(file.name, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    write_predictions(folder.path / f"predictions-{file.stem}.jsonl", module)
    reports = folder.path / file.stem
    if module.tables:
        reports.mkdir(exist_ok=True)
        task.report(module.tables, reports)
    _log.info("test (%s): %s", module.search_description, render_values(module.results))
    _log.info("written: %s", file)
    return result


def write_predictions(path: Path, module: Module) -> None:
    """Write what all ranks predicted, in the order of the split, one JSON object a line.

    Raises:
        RuntimeError: an example was predicted twice.
    """
    predictions = _from_all_ranks(module)
    indices = [prediction.index for prediction in predictions]
    if len(set(indices)) != len(indices):
        raise RuntimeError("an example was scored twice: the evaluation loader repeats examples")
    if not module.trainer.is_global_zero:
        return
    with atomic_writer(path) as file:
        for prediction in sorted(predictions, key=lambda prediction: prediction.index):
            file.write(json.dumps(dataclasses.asdict(prediction), ensure_ascii=False) + "\n")


def _from_all_ranks(module: Module) -> list[Prediction]:
    import torch.distributed

    if module.trainer.world_size == 1:
        return module.predictions
    gathered: list[Any] = [None] * module.trainer.world_size
    torch.distributed.all_gather_object(gathered, module.predictions)
    return [prediction for part in gathered for prediction in part]
