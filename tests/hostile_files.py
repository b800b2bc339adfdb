"""What tests of hostile input share: a run folder of a stranger, and a bound on memory."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from attnbuild.cli.compose import compose, open_loader, resolve
from attnbuild.cli.names import check_names
from attnbuild.training.checkpoint import build_task, save_checkpoint
from attnbuild.training.run import RunFolder

__all__ = ["BOMB", "at_most", "forged", "tiny_run"]

#: Nine lists of nine lists ...: 400 bytes of YAML that unfold to a billion values.
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)

_SMALL = (
    *("task=classification", "data=table", "data.source=text", "data.target=label", "data.validation=null"),
    *("data.test=null", "encoder=transformer", "encoder.layers=1", "encoder.feedforward=16", "model.dim=8"),
    *("attention.heads=2", "tokenizer=word", "trainer.max_steps=1", "image.size=8"),
)


@contextmanager
def at_most(megabytes: int) -> Iterator[None]:
    """Within, this process may take so much more memory than it has; asking for more is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def tiny_run(folder: Path, *more: str) -> RunFolder:
    """A run folder with a checkpoint, as a training of a few steps would leave it."""
    (folder / "train.csv").write_text(
        "text,label,other\ngood film,yes,a\nbad film,no,b\nso good,yes,c\n", encoding="utf-8"
    )
    with open_loader() as loader:
        typed = [*_SMALL, f"data.root={folder}", *more]
        passed = check_names(loader, typed)
        composed = compose(loader, passed)
        config = resolve(composed, composed.hydra.runtime.choices, folder / "run")
    task = build_task(config)
    task.prepare(("train",))
    torch.manual_seed(0)
    model = task.build_model()
    run = RunFolder(folder / "run")
    run.create()
    run.write_config(config, typed)
    run.write_summary({"checkpoint": "best.ckpt"})
    checkpoint = {
        "attnbuild": {"schema": 1, "config": config, "artifacts": task.artifacts(), "step": 1},
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "global_step": 1,
        "callbacks": {"Checkpoints": {"best": {"score": 1.0}, "candidates": []}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "loops": {"fit_loop": {"state_dict": {}}},
    }
    save_checkpoint(checkpoint, run.best_checkpoint)
    return run


def forged(run: RunFolder, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The checkpoint of a run with something in it changed, as a file of its own."""
    checkpoint = copy.deepcopy(torch.load(run.best_checkpoint, weights_only=True))
    change(checkpoint)
    path = folder / "forged.ckpt"
    save_checkpoint(checkpoint, path)
    return path
