"""The one Lightning module: it holds a task and trains its model.

Two things are done by hand that Lightning does differently. The gradient is the exact mean over all
tokens of an optimiser step, whatever the number of ranks and of accumulated batches. And everything
random in training batch k (dropout) follows from the seed, the rank and k, as the data does: a
resumed run repeats it without any generator's state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from attnbuild import registry
from attnbuild.encoders.base import Encoder
from attnbuild.training.averaging import constants
from attnbuild.training.batches import size_setting, sizes
from attnbuild.training.checkpoint import SCHEMA
from attnbuild.training.distributed import check_world
from attnbuild.training.freed_memory import give_back_freed_memory
from attnbuild.training.guard import Guard
from attnbuild.training.optimizers import OptimizerPlace
from attnbuild.training.schedulers import SchedulerPlace
from attnbuild.training.sharding import FullySharded, ShardedModel, local, share_buffers
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
        time_spent: share of ``trainer.max_minutes`` that has gone by, alike on all ranks.
        results: values of the last validation or test by name: "validation/bleu".
        tables: what its other metrics gave, by name: a confusion matrix.
        predictions: what this rank predicted in the last validation or test.
        signatures: metric name -> how exactly it was computed, for metrics that say so.
        search_description: which search the last validation or test used: "greedy".
        guard: decides about updates whose loss or gradient is no number.
    """

    def __init__(self, task: Task, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.task = task
        self.model = model
        self.config = config
        self.batches = 0
        self.learning_rate = 0.0
        self.time_spent = 0.0
        self._ahead = 0
        self._sharded: ShardedModel | None = None
        self.results: dict[str, float] = {}
        self.tables: dict[str, Any] = {}
        self.predictions: list[Prediction] = []
        self.signatures: dict[str, str] = {}
        self.search_description = ""
        self.guard = Guard(task, skip=config["trainer"].get("on_nan") == "skip")
        self._at_hand: Any = None
        self._stage = ""
        self._searching = False

    # Data

    def train_dataloader(self) -> Iterable[Any]:
        overfit = self.config["trainer"]["overfit_batches"]
        loader = self.task.train_loader(
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            start_step=0 if overfit else self.batches + self._ahead,
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

    def configure_model(self) -> None:
        strategy = self.trainer.strategy
        if self.trainer.state.fn == "fit" and isinstance(strategy, FullySharded) and self._sharded is None:
            self._sharded = ShardedModel(strategy.precision_plugin.convert_module(self.model), strategy.ranks)

    def on_fit_start(self) -> None:
        check_world(self.trainer.world_size)

    def configure_optimizers(self) -> Any:
        config = self.config
        place = OptimizerPlace(self.model, fused=config["trainer"]["precision"] != "16-mixed")
        optimizer = registry.build("optimizer", place, config["optimizer"], "optimizer")
        end = SchedulerPlace(config["trainer"]["max_steps"], lambda: self.time_spent)
        schedule = registry.build("scheduler", end, config["scheduler"], "scheduler")
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        self.tally = Tally(self.device)
        self.guard.start(self.device, self.global_rank, Path(self.trainer.default_root_dir))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seeds = np.random.SeedSequence([self.config["seed"], self.global_rank, self.batches])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        if self._sharded:
            share_buffers(self.model)  # as the distributed wrapper does with each batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.guard.before_batch(self.model)
        loss = self._sharded.loss(self.task.loss, batch) if self._sharded else self.task.loss(self.model, batch)
        self.batches += 1
        self.guard.after_batch(self._at_hand, loss)
        return loss.total if loss.unreported is None else loss.total + loss.unreported

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Divide the gradient by the tokens of this step, clip its norm, and see whether it is one to update with.

        It is a sum over tokens that Lightning divided by the number of accumulated batches and the
        distributed wrapper by the number of ranks; both are undone. Lightning refuses to clip under a fused
        optimiser with any mixed precision, though only gradient scaling (16-mixed, where nothing is fused here)
        would make it wrong.
        """
        self.learning_rate = optimizer.param_groups[0]["lr"]
        sums = self.guard.sums.sums
        loss, weight = self.sum_over_ranks(sums[:2].float())
        scale = self.trainer.accumulate_grad_batches * self.trainer.world_size / weight
        norm = _rescale([p.grad for p in self.parameters() if p.grad is not None], scale, gradient_clip_val)
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        good = self.guard.judge(self.trainer.global_step + 1, loss, norm, optimizer, scaled=scaled)
        self.tally.sums += torch.where(good.bool(), sums, 0.0)

    def on_fit_end(self) -> None:
        if self._sharded:  # what follows is on the whole model
            self.model, self._sharded = self._sharded.gather(), None

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Add a tensor up over all ranks."""
        return self.trainer.strategy.reduce(value, reduce_op="sum")

    # What is under way, for the message about memory that did not suffice

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        stage = self.trainer.state.stage
        self.takes(batch, str(stage.value) if stage else "train")
        return batch

    def takes(self, batch: Any, stage: str) -> None:
        """A batch of "train", "validation" or "test" is about to be computed."""
        self._at_hand, self._stage, self._searching = batch, {"validate": "validation"}.get(stage, stage), False

    def searches(self, description: str) -> None:
        """Its outputs are about to be searched for."""
        self._searching, self.search_description = True, description

    def under_way(self) -> str:
        """Which batch of what is at hand, and what makes it smaller."""
        if self._at_hand is None:
            return "before the first batch: make the model smaller (attnbuild show says what it holds)"
        split = self._stage
        batch = f"on a batch of {split}: {sizes(self._at_hand)}"
        setting = size_setting(self._at_hand, self.config, training=split == "train")
        if split == "train":
            return f"in training, step {self.trainer.global_step + 1}, {batch}; lower {setting}"
        if not self._searching:
            return f"in {split}, {batch}; lower {setting}"
        path = "validation.search" if split == "validation" else "search"
        section = self.config["validation"]["search"] if split == "validation" else self.config["search"]
        beam = f" or {path}.beam (now {section['beam']})" if "beam" in section else ""
        return f"while outputs were searched for ({self.search_description}), {batch}; lower {setting}{beam}"

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self.guard.settle()
        self._share_buffers()
        self._start_scoring(self.config["validation"]["search"])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish_scoring("validation")

    def on_validation_end(self) -> None:
        self.shard_again()
        give_back_freed_memory()

    def shard_again(self) -> None:
        """Go on with slices after an evaluation, during which ``model`` is whole; nothing where it always is."""
        if self._sharded:
            self.model = self._sharded.model
            self._sharded.release()

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
        if self._sharded:
            share_buffers(self.model)
        if isinstance(wrapper, DistributedDataParallel) and wrapper.broadcast_buffers:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
            wrapper.require_forward_param_sync = False

    def _start_scoring(self, search: dict[str, Any]) -> None:
        if self._sharded:
            self.model = self._sharded.gather()
        self._search = self.task.search(search)
        self.search_description = self._search.description
        self._metrics = {name: metric.to(self.device) for name, metric in self.task.metrics().items()}
        self._scored = Tally(self.device)
        self.predictions, self.tables = [], {}

    def _score(self, batch: Any) -> None:
        self._scored.add(self.task.loss(self.model, batch))
        self.searches(self._search.description)
        self.predictions += self.task.evaluate(self.model, batch, self._search, self._metrics)

    def _finish_scoring(self, split: str) -> None:
        self._require_each_once(split)
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

    def _require_each_once(self, split: str) -> None:
        """Hold what all ranks scored against the split: a score that left examples out looks like any other.

        Raises:
            RuntimeError: the evaluation loader leaves examples out or repeats them.
        """
        corpus = getattr(self.task, "corpora", {}).get(split)  # a task of one's own need not have any
        if corpus is None or self.config["trainer"]["limit_eval_batches"] is not None:
            return
        own = [prediction.index for prediction in self.predictions]
        scored, total = self.sum_over_ranks(torch.tensor([len(own), sum(own)], device=self.device)).tolist()
        size = len(corpus)
        if (scored, total) != (size, size * (size - 1) // 2):
            raise RuntimeError(f"of the {size} examples of {split} not each was scored once: {scored} were scored")

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
            "taken": self.trainer.world_size * (self.batches + self._ahead),
            "guard": self.guard.state(),
        }

    def _whole_config(self) -> dict[str, Any]:
        """The config with what an encoder carries, so that a checkpoint needs no other file."""
        encoder = getattr(self.model, "encoder", None)
        carried = encoder.carried() if isinstance(encoder, Encoder) else {}
        return {**self.config, "encoder": {**self.config["encoder"], **carried}} if carried else self.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches = checkpoint["attnbuild"]["step"]
        if "taken" in checkpoint["attnbuild"]:  # by another number of ranks, maybe; in older ones by as many
            taken = -(-checkpoint["attnbuild"]["taken"] // self.trainer.world_size)
            self._ahead = taken - self.batches
        if "guard" in checkpoint["attnbuild"]:  # older ones did not leave updates out
            self.guard.load(checkpoint["attnbuild"]["guard"])


def _rescale(gradients: list[Tensor], scale: Tensor, clip: float | None) -> Tensor:
    """Multiply gradients by ``scale``, then clip their norm; returns what it was before it was clipped.

    Each is read twice and written once: the memory's speed is what this takes, and a large model has much of it.
    """
    norm = torch.nn.utils.get_total_norm(gradients)
    norm = scale * (norm.full_tensor() if isinstance(norm, DTensor) else norm)
    if clip:
        scale = scale * (clip / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], scale)
    return norm


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
