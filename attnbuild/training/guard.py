"""What becomes of an update whose loss or gradient is no number: ``trainer.on_nan``.

The verdict is made of values that all ranks share, the loss summed over them and the norm of the reduced
gradient, so all ranks take it alike. On a GPU it is read one update later, from a copy that is made on the
side: asking at once would let the GPU run dry in every update for the sake of one in a million. Before
anything is validated or saved the last verdict is in.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.errors import AttnbuildError
from attnbuild.training.batches import content, number, readable
from attnbuild.training.run import RunFolder
from attnbuild.training.tally import Tally
from attnbuild.training.task import Loss, Task

__all__ = ["FOLDER", "IN_A_ROW", "Guard"]

_log = logging.getLogger(__name__)

#: Where batches that did harm are kept, in the run folder.
FOLDER = "bad_batches"

#: Updates that may be left out one after the other; more is no accident.
IN_A_ROW = 100

#: Batches are kept of so many updates, and of those that are told: a long run must not fill the disk with them.
_KEPT = 100


@dataclass
class _Update:
    """An update on its way to a verdict.

    Attributes:
        step: its number, from 1.
        batches: its batches on this rank, each with its loss.
        verdict: on the host or on its way there: 1 if all is well, the loss over all ranks, the norm.
        arrived: tells when the verdict is there; None: it is.
        precision: how it was computed.
    """

    step: int
    batches: list[tuple[Any, Tensor]]
    verdict: Tensor
    arrived: Any = None


class Guard:
    """Watches over the updates of one process.

    Args:
        task: made the batches.
        skip: leave such an update out and go on, rather than stop.

    Attributes:
        sums: losses and weights of the batches of the update under way, on this rank.
        skipped: updates left out, over all resumes.
        waits: whether a verdict is waited for at once; what a GPU needs not do.
    """

    def __init__(self, task: Task, *, skip: bool) -> None:
        self.task = task
        self.skip = skip
        self.skipped = 0
        self.in_a_row = 0
        self.waits = True
        self._batches: list[tuple[Any, Tensor]] = []
        self._running: list[tuple[Tensor, Tensor]] = []
        self._pending: _Update | None = None

    def start(self, device: torch.device, rank: int, folder: Path) -> None:
        """Training begins, or goes on."""
        self.rank, self.folder = rank, folder
        self.waits = device.type != "cuda"
        self.sums = Tally(device)
        self._batches = []

    # An update, in the order of calls

    def before_batch(self, model: nn.Module) -> None:
        """The model is about to compute a batch."""
        if self._batches or not self.skip:
            return
        # A batch that does harm reaches running statistics as soon as it is computed.
        self._running = [(value, value.clone()) for value in _running_statistics(model)]

    def after_batch(self, batch: Any, loss: Loss) -> None:
        """Its loss is known."""
        self.sums.add(loss)
        self._batches.append((batch, loss.total.detach()))

    def judge(self, step: int, loss: Tensor, norm: Tensor, optimizer: Any, *, scaled: bool) -> Tensor:
        """The gradient is reduced and clipped; the optimiser comes next.

        Args:
            step: number of the update, from 1.
            loss: summed over all ranks.
            norm: of the gradient, over all ranks.
            optimizer: about to update the weights.
            scaled: a loss scale, which tries numbers that are too large by design, leaves out what overflows.

        Returns:
            1.0 if all is well, else 0.0, on the device.

        Raises:
            AttnbuildError: it is not, or the update before was not.
        """
        self.settle()
        good = (torch.isfinite(loss) & torch.isfinite(norm)).float()
        values = torch.stack([good, loss.float(), norm.float()])
        update = _Update(step, self._batches, values)
        self._batches, self.sums = [], Tally(good.device)
        on_device = self.skip and _skips_by_itself(optimizer)
        if self.waits or scaled or (self.skip and not on_device):
            if not self._settle(update, scaled):
                self._undo(optimizer)
            return good
        if on_device:
            optimizer.found_inf = 1 - good  # the fused kernel then leaves weights and state as they are
            for value, before in self._running:
                value.copy_(torch.where(good.bool(), value, before))
        update.verdict = torch.empty(3, pin_memory=values.is_cuda)
        update.verdict.copy_(values, non_blocking=True)
        if values.is_cuda:
            update.arrived = torch.cuda.Event()
            update.arrived.record()
        self._pending = update
        return good

    def settle(self) -> None:
        """Take in the verdict that is still under way.

        Raises:
            AttnbuildError: the update was none to go on from.
        """
        update, self._pending = self._pending, None
        if update is not None:
            if update.arrived is not None:
                update.arrived.synchronize()
            self._settle(update, scaled=False)

    def state(self) -> dict[str, int]:
        """What a resumed run must know."""
        self.settle()
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load(self, state: dict[str, int]) -> None:
        """Go on from what ``state`` gave."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    # Verdicts

    def _settle(self, update: _Update, scaled: bool) -> bool:
        """Count and tell; whether all was well."""
        good, loss, norm = update.verdict.tolist()
        if good:
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        overflow = scaled and math.isfinite(loss)
        what = f"the training loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
        if overflow and self.in_a_row <= IN_A_ROW:
            return False
        self.skipped += not overflow
        told = _is_power_of_ten(self.skipped)
        if self.skip and not told and self.skipped > _KEPT and self.in_a_row <= IN_A_ROW:
            return False
        culprits = self._culprits(update, math.isfinite(loss))
        advice = "lower optimizer.lr, warm up longer, or set trainer.clip"
        if not self.skip:
            advice += "; trainer.on_nan=skip leaves such updates out, also with resume="
            raise AttnbuildError(f"{what} at step {update.step}; {advice}. {culprits}")
        if self.in_a_row > IN_A_ROW:
            raise AttnbuildError(
                f"{what} at step {update.step}, as in each of the {IN_A_ROW} updates before it, "
                f"and training does not get out of it; {advice}. {culprits}"
            )
        if told and self.rank == 0:
            _log.warning("update %d is left out, the %s: %s. %s", update.step, _th(self.skipped), what, culprits)
        return False

    def _undo(self, optimizer: Any) -> None:
        """Leave weights, optimiser state and running statistics as they were."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        for value, before in self._running:
            value.copy_(before)

    def _culprits(self, update: _Update, all_finite: bool) -> str:
        """Keep the batches, and say which they are; on all ranks alike."""
        losses = [loss.item() for _, loss in update.batches]
        own = [
            (self.rank, readable(batch, "train"), math.isfinite(loss))
            for (batch, _), loss in zip(update.batches, losses, strict=True)
        ]
        file = self._keep(update, losses)
        every = [batch for of_rank in _gathered(own) for batch in of_rank]
        named = [batch for batch in every if all_finite or not batch[2]] or every
        several = len({rank for rank, _, _ in every}) > 1
        said = "; ".join(f"rank {rank}: {text}" if several else text for rank, text, _ in named[:3])
        more = f"; and {len(named) - 3} more" if len(named) > 3 else ""
        kept = f"{FOLDER}/step-{update.step:08d}-rank-*.json" if several else f"{FOLDER}/{file.name}"
        return f"The batch{'es' * (len(named) > 1)}: {said}{more}; kept in {kept}"

    def _keep(self, update: _Update, losses: list[float]) -> Path:
        batches = [
            {"loss": number(loss), **content(self.task, batch)}
            for (batch, _), loss in zip(update.batches, losses, strict=True)
        ]
        _, loss, norm = update.verdict.tolist()
        record = {
            "step": update.step,
            "rank": self.rank,
            "split": "train",
            "loss": number(loss),
            "gradient_norm": number(norm),
            "batches": batches,
        }
        name = f"{FOLDER}/step-{update.step:08d}-rank-{self.rank}.json"
        return RunFolder(self.folder).write_text(name, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def _running_statistics(model: nn.Module) -> list[Tensor]:
    norms = (part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return [value for norm in norms for value in norm.buffers(recurse=False)]


def _skips_by_itself(optimizer: Any) -> bool:
    """Whether its kernel heeds ``found_inf``, as those made for loss scaling do; not with sharded weights."""
    from torch.distributed.tensor import DTensor

    groups = optimizer.param_groups
    fused = all(group.get("fused") for group in groups)
    return fused and not any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"])


def _gathered(own: list[Any]) -> list[list[Any]]:
    """Of every rank. All come here, as all have the same verdict."""
    if not torch.distributed.is_initialized():
        return [own]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def _is_power_of_ten(count: int) -> bool:
    return count > 0 and str(count).strip("0") == "1"


def _th(count: int) -> str:
    return {1: "first"}.get(count, f"{count}th")
