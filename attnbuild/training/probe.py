"""The most that a GPU will have to hold, tried at once: a batch that is too large shall not wait for its epoch.

The first batch of a training is its costliest, but when it is computed the optimiser has no state yet, and a run
that goes on begins with some other batch; validation comes hundreds of updates later. So after the first update
of a process both worst batches are computed once more, to no effect.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

__all__ = ["DEVICES", "Probe"]

#: Where memory is refused when there is none left. On the CPU it is promised without being there, and what comes of
#: that is the system's to decide, so trying tells nothing.
DEVICES = ("cuda",)


class Probe(Callback):
    """Computes the worst training batch, backwards too, and the worst validation batch after the first update."""

    def __init__(self) -> None:
        self.first = 0
        self.done = False

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.first = trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.done or trainer.global_step == self.first:
            return
        self.done = True
        sharded = any(isinstance(value, torch.distributed.tensor.DTensor) for value in module.parameters())
        if module.device.type not in DEVICES or sharded:
            return  # sharded weights are gathered by hooks that count on a regular step
        model = module.model
        modes = [(part, part.training) for part in model.modules()]
        buffers = [(value, value.clone()) for value in model.buffers()]
        self._train(trainer, module, model)
        model.eval()
        self._validate(trainer, module, model)
        for part, mode in modes:
            part.training = mode
        for value, before in buffers:
            value.copy_(before)

    def _train(self, trainer: Any, module: Any, model: nn.Module) -> None:
        loader = module.task.train_loader(rank=0, world_size=1, start_step=0)
        batch = self._given(trainer, module, next(iter(loader)), "train")
        with trainer.precision_plugin.train_step_context():
            loss = module.task.loss(model, batch).total
        # Not backward(): that would add to the gradients, and wake what adds them up over ranks.
        torch.autograd.grad(loss, [value for value in model.parameters() if value.requires_grad], allow_unused=True)

    @torch.no_grad()
    def _validate(self, trainer: Any, module: Any, model: nn.Module) -> None:
        task, section = module.task, module.config["validation"]["search"]
        batch = next(iter(task.eval_loader("validation", rank=0, world_size=1)), None)
        if batch is None:
            return
        batch = self._given(trainer, module, batch, "validation")
        search = task.search(section)
        metrics = {name: metric.to(module.device) for name, metric in task.metrics().items()}
        with trainer.precision_plugin.val_step_context():
            task.loss(model, batch)
            module.searches(search.description)
            task.evaluate(model, batch, search, metrics)

    def _given(self, trainer: Any, module: Any, batch: Any, stage: str) -> Any:
        """A batch as a step is given it."""
        module.takes(batch, stage)
        return module.transfer_batch_to_device(trainer.precision_plugin.convert_input(batch), module.device, 0)
