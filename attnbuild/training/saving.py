"""When checkpoints are written, and which are kept.

After every validation: ``best.ckpt`` when the score is the highest so far, a candidate for the average
when one is wanted, and ``last.ckpt``, from which training can go on. ``last.ckpt`` comes last: it knows
about the others, so a kill between them loses nothing that it speaks of.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Checkpoint

from attnbuild.errors import CheckpointError
from attnbuild.training.averaging import Average, MovingAverage
from attnbuild.training.run import RunFolder, is_plain_name

__all__ = ["Checkpoints"]


class Checkpoints(Checkpoint):
    """Saves the run after each validation.

    Args:
        run: where to.
        monitor: the value that ranks checkpoints, as "validation/bleu"; higher is better.
        average: which weights will be averaged at the end.
        moving: the moving average, when that is what ``average`` asks for.

    Attributes:
        best: score, step, values, signatures and search of the best validation; empty before the first.
        candidates: file name and score of the checkpoints kept for the average.
    """

    def __init__(self, run: RunFolder, monitor: str, average: Average | None, moving: MovingAverage | None) -> None:
        self.run = run
        self.monitor = monitor
        self.average = average
        self.moving = moving
        self.best: dict[str, Any] = {}
        self.candidates: list[tuple[str, float]] = []

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn != "fit":
            return
        module.shard_again()  # the moving average is of slices, where there are any
        score = module.results[self.monitor]
        score = -math.inf if math.isnan(score) else score
        rank = (score, -module.results["validation/loss"])  # the loss decides between equal scores
        improved = not self.best or rank > self.best["rank"]
        if improved:
            self.best = {
                "score": score,
                "rank": rank,
                "step": trainer.global_step,
                "results": module.results,
                "signatures": module.signatures,
                "search": module.search_description,
            }
            trainer.save_checkpoint(self.run.best_checkpoint, weights_only=True)
        if self.average is not None and (improved or self.average.over != "ema"):
            self._save_candidate(trainer, module, score)
        self.save_last(trainer)
        if trainer.is_global_zero:
            self._remove_others()

    def save_last(self, trainer: Any) -> None:
        """Write ``last.ckpt``; to be called between two updates only."""
        trainer.save_checkpoint(self.run.last_checkpoint, weights_only=False)

    def candidate_files(self) -> list[Path]:
        """The checkpoints to average."""
        return [self.run.checkpoints / name for name, _ in self.candidates]

    def _save_candidate(self, trainer: Any, module: Any, score: float) -> None:
        assert self.average is not None
        name = f"step-{trainer.global_step:08d}.ckpt"
        kept = [*self.candidates, (name, score)]
        if self.average.over == "best":
            kept.sort(key=lambda candidate: candidate[1])
        self.candidates = kept[-self.average.count :]
        if (name, score) in self.candidates:
            with self.moving.applied(module) if self.moving else nullcontext():
                trainer.save_checkpoint(self.run.checkpoints / name, weights_only=True)

    def _remove_others(self) -> None:
        kept = {name for name, _ in self.candidates}
        for path in self.run.checkpoints.glob("step-*.ckpt"):
            if path.name not in kept:
                path.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "candidates": self.candidates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.candidates = [(name, score) for name, score in state_dict["candidates"]]
        foreign = [name for name, _ in self.candidates if not is_plain_name(name)]
        if foreign:
            raise CheckpointError(f"{self.run.last_checkpoint}: names a checkpoint outside the run: {foreign[0]!r:.80}")
