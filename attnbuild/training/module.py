"""The one Lightning module: it holds a task and trains its model.

Two things are done by hand that Lightning does differently. The gradient is the exact mean over all
tokens of an optimiser step, whatever the number of ranks and of accumulated batches. And everything
random in training batch k (dropout) follows from the seed, the rank and k, as the data does: a
resumed run repeats it without any generator's state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from attnbuild import registry
from attnbuild.encoders.base import Encoder
from attnbuild.training.averaging import constants
from attnbuild.training.checkpoint import SCHEMA
from attnbuild.training.distributed import check_world
from attnbuild.training.optimizers import OptimizerPlace
from attnbuild.training.schedulers import SchedulerPlace
from attnbuild.training.tally import Tally
from attnbuild.training.task import Prediction, Task

__all__ = ["Module"]


class Module(LightningModule):
    """Trains and scores the model of a task.

    Args:
        task: data, loss, metrics, predictions.
        model: the model that ``task.build_model`` made.
        config: the resolved config.

    Attributes:
        batches: training batches that this rank has taken, over all resumes.
        tally: losses of the training batches since the last time they were logged.
        learning_rate: of the last update.
        results: values of the last validation or test by name: "validation/bleu".
        tables: what its other metrics gave, by name: a confusion matrix.
        predictions: what this rank predicted in the last validation or test.
        signatures: metric name -> how exactly it was computed, for metrics that say so.
        search_description: which search the last validation or test used: "greedy".
    """

    def __init__(self, task: Task, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.config = config
        self.batches = 0
        self.learning_rate = 0.0
        self.results: dict[str, float] = {}
        self.tables: dict[str, Any] = {}
        self.predictions: list[Prediction] = []
        self.signatures: dict[str, str] = {}
        self.search_description = ""

    # Data

    def train_dataloader(self) -> Iterable[Any]:
        overfit = self.config["trainer"]["overfit_batches"]
        loader = self.task.train_loader(
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            start_step=0 if overfit else self.batches,
        )
        return _Repeated(loader, overfit, self.batches) if overfit else loader

    def val_dataloader(self) -> Iterable[Any]:
        return self._eval_loader("validation")

    def test_dataloader(self) -> Iterable[Any]:
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> Iterable[Any]:
        loader = self.task.eval_loader(split, rank=self.trainer.global_rank, world_size=self.trainer.world_size)
        return _WithoutLength(loader)

    # Training

    def on_fit_start(self) -> None:
        check_world(self.trainer.world_size)

    def configure_optimizers(self) -> Any:
        config = self.config
        place = OptimizerPlace(self.model, fused=config["trainer"]["precision"] != "16-mixed")
        optimizer = registry.build("optimizer", place, config["optimizer"], "optimizer")
        schedule = registry.build(
            "scheduler", SchedulerPlace(config["trainer"]["max_steps"]), config["scheduler"], "scheduler"
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        self.tally = Tally(self.device)
        self._weight = torch.zeros((), device=self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seeds = np.random.SeedSequence([self.config["seed"], self.global_rank, self.batches])
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.task.loss(self.model, batch)
        self.batches += 1
        self._weight += torch.as_tensor(loss.weight).detach().to(self._weight)
        self.tally.add(loss)
        return loss.total if loss.unreported is None else loss.total + loss.unreported

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradient by the tokens of this step.

        It is a sum over tokens that Lightning divided by the number of accumulated batches and the
        distributed wrapper by the number of ranks; both are undone. Clipping comes after this hook.
        """
        self.learning_rate = optimizer.param_groups[0]["lr"]
        weight = self.sum_over_ranks(self._weight)
        scale = self.trainer.accumulate_grad_batches * self.trainer.world_size / weight
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, scale)
        self._weight = torch.zeros_like(self._weight)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm, under a fused optimiser too.

        Lightning refuses that with any mixed precision, though only gradient scaling (16-mixed, where
        nothing is fused here) would make it wrong.
        """
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Add a tensor up over all ranks."""
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self._share_buffers()
        self._start_scoring(self.config["validation"]["search"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish_scoring("validation")

    def on_test_epoch_start(self) -> None:
        self._start_scoring(self.config["search"])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch)

    def on_test_epoch_end(self) -> None:
        self._finish_scoring("test")

    def _share_buffers(self) -> None:
        """Let all ranks score with the buffers of the first, which are those that are saved: running statistics.

        The distributed wrapper would do so with the first batch, and wait forever for a rank that has none.
        """
        wrapper = self.trainer.strategy.model
        if isinstance(wrapper, DistributedDataParallel) and wrapper.broadcast_buffers:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
            wrapper.require_forward_param_sync = False

    def _start_scoring(self, search: dict[str, Any]) -> None:
        self._search = self.task.search(search)
        self.search_description = self._search.description
        self._metrics = {name: metric.to(self.device) for name, metric in self.task.metrics().items()}
        self._scored = Tally(self.device)
        self.predictions, self.tables = [], {}

    def _score(self, batch: Any) -> None:
        self._scored.add(self.task.loss(self.model, batch))
        self.predictions += self.task.evaluate(self.model, batch, self._search, self._metrics)

    def _finish_scoring(self, split: str) -> None:
        values = self._scored.means(self.sum_over_ranks, perplexity=self.task.writes == "text")
        values.pop("tokens", None)
        for name, metric in self._metrics.items():
            value = metric.compute()
            if not isinstance(value, Tensor) or value.numel() != 1:
                self.tables[name] = value
                continue
            values[name] = float(value)
            if hasattr(metric, "signature"):
                self.signatures[name] = str(metric.signature)
        self.results = {f"{split}/{name}": value for name, value in values.items()}
        self.log_dict(self.results, logger=False)

    def record(self, values: dict[str, float]) -> None:
        """Hand values to the loggers, under the number of updates made."""
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["attnbuild"] = {
            "schema": SCHEMA,
            "config": self._whole_config(),
            "artifacts": self.task.artifacts(),
            "constants": constants(self),
            "step": self.batches,
        }

    def _whole_config(self) -> dict[str, Any]:
        """The config with what an encoder carries, so that a checkpoint needs no other file."""
        encoder = getattr(self.model, "encoder", None)
        carried = encoder.carried() if isinstance(encoder, Encoder) else {}
        return {**self.config, "encoder": {**self.config["encoder"], **carried}} if carried else self.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches = checkpoint["attnbuild"]["step"]


class _WithoutLength:
    """A loader that does not say how many batches it has.

    A rank may get no batch of a small validation set. Lightning leaves out the whole validation where
    the length is 0, and the other ranks would wait for that one forever.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


class _Repeated:
    """The first batches of a stream over and over, to see whether a model can learn them by heart."""

    def __init__(self, loader: Iterable[Any], count: int, start: int) -> None:
        self.loader = loader
        self.count = count
        self.start = start

    def __iter__(self) -> Iterator[Any]:
        batches = list(itertools.islice(self.loader, self.count))
        return (batches[k % len(batches)] for k in itertools.count(self.start))
