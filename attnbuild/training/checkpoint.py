"""Checkpoints: files that carry config, tokenizers and weights, and cannot run code.

A checkpoint is what ``torch.save`` writes of plain values and tensors. The key "attnbuild" holds
``schema``, ``config`` (the resolved config), ``artifacts`` (file name -> text: the tokenizers) and
``step`` (training batches taken); "state_dict" holds the weights under "model."; the rest is what
Lightning needs to continue. Reading accepts tensors and plain values and nothing else, and takes no more memory than
the file is long; what is promised of files of others is in docs/security.md.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from attnbuild import registry
from attnbuild.errors import CheckpointError, ConfigError
from attnbuild.printable import in_one_line
from attnbuild.training.checkpoint_file import check_file
from attnbuild.training.checkpoint_fit import check_sections, fitting_model
from attnbuild.training.plugins import require_named_plugins
from attnbuild.training.run import RunFolder, is_plain_name

if TYPE_CHECKING:
    from attnbuild.training.task import Task

__all__ = [
    "SCHEMA",
    "Loaded",
    "build_task",
    "chosen_file",
    "load",
    "load_checkpoint",
    "load_matching",
    "model_weights",
    "restore_task",
    "save_checkpoint",
]

#: Raised when the layout of "attnbuild" or the names of weights change; older ones are then migrated.
SCHEMA = 1

_PREFIX = "model."

#: What ``torch.save`` writes is a zip file. Its older format, a bare pickle, is not read.
_SIGNATURE = b"PK\x03\x04"

#: What building a task and a model from a config and tokenizers of others may end in.
_OF_BAD_CONFIGS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, RuntimeError),
    *(TypeError, ValueError, MemoryError),
)


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds, ready to use.

    Attributes:
        task: with its tokenizers, without data.
        model: in evaluation mode, on the CPU.
        config: the resolved config it was trained with.
    """

    task: Task
    model: nn.Module
    config: dict[str, Any]


def save_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    disk = _Noting(handle, "wb")
    try:
        with io.BufferedWriter(disk) as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        refused = disk.refused or (error if isinstance(error, OSError) else None)
        if refused is None:
            raise
        if refused.errno is not None:
            refused.filename = str(path)
        raise refused from None


class _Noting(io.FileIO):
    """A file that remembers what the disk said: of a full one, torch reports a consequence instead."""

    refused: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.refused = error
            raise


def load_checkpoint(path: str | Path, device: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint. Nothing that it holds is executed.

    Raises:
        CheckpointError: missing, damaged, holding more than tensors and plain values, or of another schema.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise CheckpointError(f"{path}: cannot be loaded: it is damaged, or no checkpoint at all")
    try:
        check_file(path)
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds more than tensors and plain values; nothing of it was run"
        raise CheckpointError(f"{path}: cannot be loaded: {reason}") from error
    except Exception as error:  # whatever a damaged file makes of the reader, the file is at fault
        reason = in_one_line((str(error) or type(error).__name__).splitlines()[0], 200)
        raise CheckpointError(f"{path}: cannot be loaded: it is damaged ({reason})") from error
    own = checkpoint.get("attnbuild") if isinstance(checkpoint, dict) else None
    if not isinstance(own, dict) or "schema" not in own:
        raise CheckpointError(f"{path}: is no checkpoint of attnbuild")
    if own["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: has schema {own['schema']!r:.20} and this attnbuild reads {SCHEMA}; "
            "install the version that wrote it (see versions in the run's summary.json)"
        )
    misshapen = _misshapen(checkpoint, own)
    if misshapen:
        raise CheckpointError(f"{path}: cannot be loaded: {misshapen}")
    return checkpoint


def _misshapen(checkpoint: dict[str, Any], own: dict[str, Any]) -> str:
    """What in a checkpoint is not what its place in it asks for; empty where all is."""
    weights, artifacts = checkpoint.get("state_dict"), own.get("artifacts")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        return "its weights are no tensors"
    if not isinstance(own.get("config"), dict):
        return "its config is none"
    if not isinstance(artifacts, dict) or not all(isinstance(text, str) for text in artifacts.values()):
        return "its tokenizers are no texts"
    foreign = next((name for name in artifacts if not is_plain_name(name)), None)
    if foreign is not None:
        return f"it names a file outside its folder: {in_one_line(str(foreign), 80)!r}"
    step = own.get("step")
    return "" if type(step) is int and step >= 0 else "it does not say its step"


def model_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of the model itself, by its own names."""
    weights = checkpoint["state_dict"].items()
    return {name.removeprefix(_PREFIX): value for name, value in weights if name.startswith(_PREFIX)}


def load(path: str | Path, plugins: list[str] | None = None) -> Loaded:
    """Load a trained model from a run folder or a checkpoint file; nothing else is needed.

    Args:
        path: a run folder (its better one of single best and averaged weights) or a ``.ckpt`` file.
        plugins: modules that register the parts the run was trained with. They are code, so they are
            imported because you name them here, never because a checkpoint does.

    Raises:
        CheckpointError: the checkpoint cannot be read, or needs a plugin that was not named.
    """
    registry.load_plugins(plugins or [])
    file = chosen_file(path)
    checkpoint = load_checkpoint(file)
    config = checkpoint["attnbuild"]["config"]
    require_named_plugins(config, plugins or [], str(file))
    weights = model_weights(checkpoint)
    try:
        check_sections(config)
        task = restore_task(config, checkpoint["attnbuild"]["artifacts"])
        model = fitting_model(task, weights)
        model.load_state_dict(weights)
    except ConfigError as error:
        raise CheckpointError(f"{file}: its own config cannot be used: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    except _OF_BAD_CONFIGS as error:
        reason = in_one_line(f"{type(error).__name__}: {error}", 300)
        raise CheckpointError(f"{file}: its own config or tokenizer cannot be used ({reason})") from error
    return Loaded(task, model.eval(), config)


def chosen_file(path: str | Path) -> Path:
    """The checkpoint that a run folder or a ``.ckpt`` file stands for.

    Raises:
        CheckpointError: the folder is no run, or has no checkpoint.
    """
    path = Path(path)
    return path if path.suffix == ".ckpt" else RunFolder.open(path).chosen_checkpoint()


def restore_task(config: dict[str, Any], artifacts: dict[str, str]) -> Task:
    """Build the task of a config with the tokenizers of a checkpoint; reads no data."""
    task = build_task(config)
    task.restore(artifacts)
    return task


def build_task(config: dict[str, Any]) -> Task:
    """Build the task that a config names."""
    from attnbuild.data.place import default_cache_dir
    from attnbuild.training.task import TaskPlace

    return registry.build("task", TaskPlace(config, default_cache_dir()), config["task"], "task")


def load_matching(model: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Load the weights whose name and shape the model has; the names of its other tensors, sorted."""
    own = model.state_dict()
    matching = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(matching, strict=False)
    return sorted(set(own) - set(matching))
