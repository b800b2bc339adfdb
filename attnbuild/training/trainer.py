"""From the section ``trainer`` of a config to a Lightning Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from attnbuild.errors import ConfigError
from attnbuild.training.checkpoint_io import AtomicCheckpointIO
from attnbuild.training.distributed import process_count
from attnbuild.training.environment import Environment
from attnbuild.training.precision import precision_of
from attnbuild.training.world import World, current

__all__ = ["build_trainer"]


def build_trainer(
    config: dict[str, Any], folder: Path, *, callbacks: list[Callback] | None = None, loggers: Any = False
) -> Trainer:
    """The Trainer of a config.

    There is one endless epoch: training is counted in updates, and the loaders are ours, since they
    know about ranks and positions.

    Raises:
        ConfigError: the machine lacks what the section asks for.
    """
    section = config["trainer"]
    devices, world, precision = process_count(section), current(), precision_of(section)
    options: dict[str, Any] = {
        "accelerator": section["accelerator"],
        "devices": devices,
        "num_nodes": world.nodes,
        "strategy": _strategy(section, devices * world.nodes, precision),
        "precision": precision,
        "max_steps": section["max_steps"],
        "max_epochs": -1,
        "accumulate_grad_batches": section["accumulate"],
        "gradient_clip_val": section["clip"],
        "val_check_interval": config["validation"]["every"] * section["accumulate"],
        "check_val_every_n_epoch": None,
        "limit_val_batches": section["limit_eval_batches"],
        "limit_test_batches": section["limit_eval_batches"],
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool(callbacks),
        "callbacks": callbacks or [],
        "logger": loggers or False,
        "plugins": _plugins(world),
        "profiler": _profiler(section["profiler"], folder),
        "default_root_dir": folder,
    }
    try:
        return Trainer(**options)
    except (MisconfigurationException, ValueError, RuntimeError) as error:  # the machine, or a bad pairing
        raise ConfigError(str(error), "trainer") from error


def _plugins(world: World) -> list[Any]:
    return [AtomicCheckpointIO(), Environment(world)]


def _strategy(section: dict[str, Any], devices: int, precision: str) -> Any:
    """One device needs no strategy; several get DDP or FSDP, on the CPU over gloo."""
    if devices == 1:
        return "auto"
    if section["strategy"] == "fsdp":
        return _sharded(section["accelerator"], precision)
    if section["strategy"] not in ("auto", "ddp"):
        return section["strategy"]
    from lightning.pytorch.strategies import DDPStrategy

    backend = "gloo" if section["accelerator"] == "cpu" else "nccl"
    return DDPStrategy(process_group_backend=backend)


def _sharded(accelerator: str, precision: str) -> Any:
    """Parameters spread over the devices.

    Raises:
        ConfigError: the strategy does not compute in this precision.
    """
    from attnbuild.training.sharding import PRECISIONS, FullySharded

    if precision not in PRECISIONS:
        message = f"fsdp trains in {', '.join(PRECISIONS)}, not in {precision!r}: choose one, or strategy=ddp"
        raise ConfigError(message, "trainer.precision")
    return FullySharded("gloo" if accelerator == "cpu" else "nccl")


def _profiler(name: str | None, folder: Path) -> Any:
    if name is None:
        return None
    from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler

    kind = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}[name]
    return kind(dirpath=folder, filename="profile")
