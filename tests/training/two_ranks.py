"""Trainings of two processes and the same of one, with all that is to be equal written down.

Two processes do all trainings one after the other, for their start costs more than they do. One process alone trains on
the sentences of both: two batches joined to one, or twice as many for each update.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from filelock import FileLock
from lightning.pytorch import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor

from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.data.batching import Batch
from attnbuild.training.averaging import MovingAverage, parse_average
from attnbuild.training.checkpoint import build_task
from attnbuild.training.module import Module
from attnbuild.training.run import RunFolder
from attnbuild.training.saving import Checkpoints
from attnbuild.training.sharding import local, whole
from attnbuild.training.trainer import build_trainer
from attnbuild.training.training_log import TrainingLog

__all__ = ["ALIKE", "MIDDLE", "STRATEGIES", "TASKS", "composed", "outcomes_of"]

STRATEGIES = ("ddp", "fsdp")

_ALL = (
    *("validation.every=2", "trainer.max_steps=2", "trainer.log_every=1", "trainer.threads=1"),
    *("validation.samples=0", "validation.maps=0", "model.dim=16", "model.dropout=0.0", "average=none"),
    *("optimizer=sgd", "optimizer.lr=0.05", "scheduler=constant"),
)
#: 3 batches on 2 ranks in validation; then a test of one sentence, of which a rank has none.
_FEW = ("data.train=160", "data.validation=7", "data.test=1", "batch.eval_rows=3")
_SHORT = ("search=greedy", "validation.search.max_length_ratio=0", "validation.search.max_length_extra=8")
_LAYERS = ("encoder.layers=2", "encoder.feedforward=32")
_TRANSLATION = ("task=translation", *_ALL, *_FEW, *_SHORT, "tokenizer.vocab_size=300", "batch.tokens=256")
_TRANSFORMER = (*_TRANSLATION, *_LAYERS, "decoder.layers=2", "decoder.feedforward=32")

#: Where every other answer is replaced by the right one, so that scores are neither nothing nor everything.
TASKS: dict[str, tuple[str, ...]] = {
    "translation": _TRANSFORMER,
    "captioning": (
        *("task=captioning", *_ALL, *_FEW, *_SHORT, *_LAYERS, "encoder=vit", "encoder.patch=8", "decoder=rnn"),
        *("batch.rows=6", "image.channels=1", "task.doubly_stochastic=0.5"),
    ),
    "classification": (
        *("task=classification", *_ALL, *_FEW, *_LAYERS, "data=cldr_languages", "encoder=transformer"),
        *("batch.tokens=256", "task.class_weights=balanced", "decoder.dropout=0.0", "tokenizer.vocab_size=300"),
    ),
}
#: What else ddp and fsdp do alike: clip, accumulate, average; whole matrices in an update; running statistics; a sampled
#: attention and dropout.
ALIKE: dict[str, tuple[str, ...]] = {
    "adam": (
        *(*_TRANSFORMER, "optimizer=adamw", "optimizer.lr=0.003", "trainer.clip=0.5", "trainer.accumulate=2"),
        "optimizer.eps=0.0001",  # biases of keys have no gradient but for rounding, which must not become an update
        *("trainer.max_steps=4", "average=ema"),
    ),
    # Small updates, as those in bf16 round apart what the order of a sum leaves between two gradients.
    "muon": (*_TRANSFORMER, "optimizer=muon", "optimizer.lr=0.0003", "optimizer.eps=0.0001"),
    "cnn": (
        *("task=classification", *_ALL, "encoder.width=4", "encoder.blocks=[1,1]", "decoder.pooling=mean"),
        *("batch.rows=8", "batch.eval_rows=512", "trainer.limit_eval_batches=1", "image.channels=1"),
    ),
    "hard": (*_TRANSLATION, "encoder=rnn", "decoder=rnn", "decoder/cross_attention=hard", "model.dropout=0.1"),
}
#: Updates after which the checkpoint of "adam" is kept, to go on from with another number of processes.
MIDDLE = 2


def outcomes_of(factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of all trainings, and "case-strategy-rank" -> what was written down; made once for all tests."""
    shared = factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "two-ranks"
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            draft = factory.mktemp("two-ranks-draft")
            torch.save(_all_outcomes(draft), draft / "outcomes")
            draft.rename(folder)
    return folder, torch.load(folder / "outcomes")


def _all_outcomes(folder: Path) -> dict[str, Any]:
    configs = {name: composed(words) for name, words in (TASKS | ALIKE).items()}
    (folder / "configs.json").write_text(json.dumps(configs))
    found = {f"{name}-alone": _train(configs[name], folder / name, answered=True, joined=True) for name in TASKS}
    alone = copy.deepcopy(configs["adam"])
    alone["trainer"]["accumulate"] *= 2
    found["adam-alone"] = _train(alone, folder / "adam")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_run_rank, (port, str(folder)), nprocs=2)
    found["adam-resumed"] = _train(alone, folder / "resumed", resume=folder / "adam-fsdp" / "middle.ckpt")
    return found | {path.stem: torch.load(path) for path in folder.glob("*.pt")}


def composed(words: tuple[str, ...]) -> dict[str, Any]:
    """The config of what is typed."""
    with open_loader() as loader:
        # Values may be of options that no file writes down, as on the command line.
        config = compose(loader, [f"++{word}" if "." in word.partition("=")[0] else word for word in words])
        return resolve(config, config.hydra.runtime.choices)


def _run_rank(rank: int, port: int, name: str) -> None:
    """All trainings of one of two processes; as our own launch starts it."""
    torch.set_num_threads(1)
    folder = Path(name)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "ATTNBUILD_RANK_ERRORS": name}
    configs = json.loads((folder / "configs.json").read_text())
    trainings = [(case, strategy, None) for case, strategy in itertools.product(configs, STRATEGIES)]
    for case, strategy, resume in [*trainings, ("adam", "fsdp", folder / "adam" / "middle.ckpt")]:
        config = copy.deepcopy(configs[case])
        config["trainer"] |= {"devices": 2, "strategy": strategy}
        title = f"{case}-{'resumed' if resume else strategy}"
        torch.save(_train(config, folder / title, answered=case in TASKS, resume=resume), folder / f"{title}-{rank}.pt")


def _train(
    config: dict[str, Any], folder: Path, *, answered: bool = False, joined: bool = False, resume: Path | None = None
) -> dict[str, Any]:
    """Train and test as this process; what there is to compare."""
    task = build_task(config)
    task.prepare()
    if answered:
        _answer_in_part(task)
    if joined:
        _join_batches(task)
    torch.manual_seed(config["seed"])
    module = Module(task, task.build_model(), config)
    run, average = RunFolder(folder), parse_average(config["average"])
    run.create()
    moving = [MovingAverage(decay=0.5)] if average else []
    log = TrainingLog(1)
    recorder = _Recorder(log, run)
    checkpoints = Checkpoints(run, f"validation/{task.monitor}", average, moving[0] if moving else None)
    trainer = build_trainer(config, folder, callbacks=[log, *moving, recorder, checkpoints])
    trainer.fit(module, ckpt_path=resume, weights_only=True)
    found = recorder.seen | {
        "validation": module.results,
        "predicted": [prediction.index for prediction in module.predictions],
        "weights": {name: value.clone() for name, value in module.model.state_dict().items()},
        "files": sorted(path.name for path in run.checkpoints.glob("*.ckpt")),
    }
    trainer.test(module, verbose=False)
    tables = {name: [part.tolist() for part in value] for name, value in module.tables.items()}
    return found | {"test": module.results, "tested": [p.index for p in module.predictions], "tables": tables}


class _Recorder(Callback):
    """Writes down the gradient of the first update, the losses of all, and what dropout is drawn from."""

    def __init__(self, log: TrainingLog, run: RunFolder) -> None:
        self.training_log, self.run = log, run
        self.seen: dict[str, Any] = {"losses": [], "seeds": [], "gradient": {}}

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == MIDDLE and self.run.last_checkpoint.exists():
            shutil.copy(self.run.last_checkpoint, self.run.path / "middle.ckpt")

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self.seen["seeds"].append(torch.initial_seed())
        if module.batches % trainer.accumulate_grad_batches:
            return
        self.seen["losses"].append(self.training_log.latest["train/loss"])
        if not self.seen["gradient"]:
            named = dict(module.named_parameters())
            self.seen["gradient"] = {name: whole(parameter.grad).clone() for name, parameter in named.items()}
            self.seen["sliced"] = all(isinstance(parameter, DTensor) for parameter in named.values())
            self.seen["held"] = sum(local(parameter).numel() for parameter in named.values())


def _answer_in_part(task: Any) -> None:
    """Let every other answer in words be the first of the right ones."""
    update = task.update

    def partly_right(metrics: Any, answers: list[Any], batch: Batch) -> None:
        if task.writes == "text":
            right = [text.splitlines()[0] for text in batch.texts[1]]
            answers = [
                dataclasses.replace(answer, text=text) if index % 2 == 0 else answer
                for answer, text, index in zip(answers, right, batch.index.tolist(), strict=True)
            ]
        update(metrics, answers, batch)

    task.update = partly_right


def _join_batches(task: Any) -> None:
    """Let two batches of the stream be one, as a process with room for twice as much would have it."""
    make = task.train_loader
    task.train_loader = lambda **options: _Joined(make(**options))


class _Joined:
    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        stream = iter(self.loader)
        for first, second in zip(stream, stream, strict=False):
            names = ("source", "target", "index")
            yield Batch(*(_stack(getattr(first, name), getattr(second, name)) for name in names))


def _stack(first: Tensor, second: Tensor) -> Tensor:
    """One below the other; token ids (B, N) are padded to one width."""
    if first.dim() == 2:
        width = max(first.shape[1], second.shape[1])
        first, second = (torch.nn.functional.pad(rows, (0, width - rows.shape[1])) for rows in (first, second))
    return torch.cat([first, second])
