"""A model of the config that a checkpoint carries, built only where it is the one whose weights the file holds.

A config of a stranger may ask for layers of any width and number. So the model is first built on torch's meta device,
where a tensor has a shape and takes no memory, and given up as soon as it outgrows the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from attnbuild.errors import CheckpointError, ConfigError, Problem
from attnbuild.registry import check_value, lookup, options_of
from attnbuild.sections import SECTIONS

if TYPE_CHECKING:
    from attnbuild.training.task import Task

__all__ = ["check_sections", "fitting_model"]

#: Modules for each tensor of the file, and some for models that have nearly none: a layer registers its parts again
#: in every list that holds them, and dropouts and activations have no tensors.
_MODULES_EACH, _MODULES_ANYHOW = 32, 4096

#: Numbers of a tensor that may be made on the way to the model's own, whatever the file holds.
_NUMBERS_ANYHOW = 1 << 22

#: Operations for each tensor of the file, and some anyhow: random features are drawn in small blocks.
_OPERATIONS_EACH, _OPERATIONS_ANYHOW = 500, 20_000

#: What makes a tensor of as many numbers as it is told, rather than of a shape.
_COUNTING = (torch.ops.aten.arange, torch.ops.aten.eye, torch.ops.aten.linspace, torch.ops.aten.randperm)

#: Sections of the config that every trained model is used with, and those where it has an encoder and a decoder.
_USED = ("task", "search", "validation", "trainer")
_USED_BY_PAIRS = ("encoder", "decoder", "model", "batch", "data")

#: In keys of a pretrained model's own config at which the transformers library fetches code or weights from a hub.
_FETCHING = ("implementation", "auto_map", "backbone", "kernel", "quantization", "adapter", "peft", "_name_or_path")


def check_sections(config: Mapping[str, Any]) -> None:
    """Hold the values of a config that a trained model is used with to their types and ranges.

    Keys that are unknown or missing are passed over: another version of attnbuild may have written the config.

    Raises:
        ConfigError: what is wrong, all of it together.
    """
    needed = [*_USED, *(_USED_BY_PAIRS if "encoder" in config else ())]
    problems = [Problem(name, "is no section of options") for name in needed if not isinstance(config.get(name), dict)]
    if problems:
        raise ConfigError(problems)
    for section, schema in SECTIONS.items():
        given, options = config.get(section, {}), options_of(schema)
        for name in sorted(set(given) & set(options)) if section in needed else ():
            wrong = check_value(options[name].annotation, given[name])
            if wrong:
                problems.append(Problem(f"{section}.{name}", wrong))
    if "encoder" in config:
        problems += _fetching(config["encoder"])
        lookup("data", config["data"].get("type"))
    if problems:
        raise ConfigError(problems)


def _fetching(encoder: Mapping[str, Any]) -> list[Problem]:
    """What in a pretrained encoder's section reads another file than the checkpoint, or fetches something to run."""
    if encoder.get("type") != "pretrained":
        return []
    if not isinstance(encoder.get("config"), dict):
        return [Problem("encoder.config", "is missing: this checkpoint needs the files of another model")]
    keys = sorted(
        {
            str(key)
            for key, value in _items(encoder["config"])
            if any(name in str(key) for name in _FETCHING) and not _is_a_size(value)
        }
    )
    return [
        Problem(f"encoder.config.{key}", "names something to fetch, which no checkpoint of ours does") for key in keys
    ]


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """The items of a mapping and of all within it."""
    if isinstance(value, dict):
        yield from value.items()
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _items(inner)


def _is_a_size(value: Any) -> bool:
    """Numbers, as of a convolution's kernels, or nothing: neither names anything."""
    if isinstance(value, list | tuple):
        return all(_is_a_size(inner) for inner in value)
    return value is None or value is False or type(value) in (int, float)


def fitting_model(task: Task, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model of a task, whose tensors have the names and shapes of the weights.

    Raises:
        CheckpointError: they have not; nothing of the model was built then.
    """
    try:
        with torch.device("meta"), _no_larger_than(weights):
            shape = task.build_model()
    except NotImplementedError:
        # A plugin's model that looks at its numbers while it is built; the user named the plugin.
        return task.build_model()
    _require_stored(shape, weights)
    found = {name: tuple(value.shape) for name, value in weights.items()}
    wanted = {name: tuple(value.shape) for name, value in shape.state_dict().items()}
    if found != wanted:
        raise CheckpointError(f"does not fit the model of its own config: {_differences(found, wanted)}")
    return task.build_model()


def _differences(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    reasons = [f"{name} is missing" for name in sorted(set(wanted) - set(found))]
    reasons += [f"{name} has no place in it" for name in sorted(set(found) - set(wanted))]
    both = sorted(set(found) & set(wanted))
    reasons += [f"{name} is {found[name]}, not {wanted[name]}" for name in both if found[name] != wanted[name]]
    return "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def _require_stored(shape: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse a model with more numbers than the file has: there one storage may serve any number of names."""
    stored = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() // value.itemsize
        for value in weights.values()
    }
    # Of buffers only those that a file holds; what counts positions, say, is made with the model.
    own = {id(value): value.numel() for value in shape.state_dict(keep_vars=True).values()}
    if sum(own.values()) > sum(stored.values()):
        told = f"{sum(own.values()):,} numbers, and the file {sum(stored.values()):,}"
        raise CheckpointError(f"does not fit the model of its own config, which has {told}")


@contextmanager
def _no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give up on building a model that has more modules, or larger tensors, than one with these weights could have."""
    largest = max((value.numel() for value in weights.values()), default=0)
    most = _MODULES_ANYHOW + _MODULES_EACH * len(weights)
    count = 0

    def on_module(*registered: Any) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise CheckpointError(f"does not fit the model of its own config, which has more than {most} modules")

    hook = register_module_module_registration_hook(on_module)
    try:
        with _Bounded(max(largest, _NUMBERS_ANYHOW), _OPERATIONS_ANYHOW + _OPERATIONS_EACH * len(weights)):
            yield
    finally:
        hook.remove()


class _Bounded(TorchDispatchMode):
    """Refuse to make larger tensors, on the meta device and on any other, as some are drawn on the CPU; or ever more.

    Args:
        most: numbers of a tensor.
        operations: on tensors.
    """

    def __init__(self, most: int, operations: int) -> None:
        super().__init__()
        self.most, self.operations = most, operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sizes = [math.prod(arg) for arg in args if isinstance(arg, list | tuple) and all(type(n) is int for n in arg)]
        if func.overloadpacket in _COUNTING:
            sizes += [int(abs(arg)) for arg in args if isinstance(arg, int | float) and math.isfinite(arg)]
        if max(sizes, default=0) > self.most:
            raise CheckpointError(
                f"does not fit the model of its own config, which has a tensor of {max(sizes):,} numbers"
            )
        self.operations -= 1
        if self.operations < 0:
            raise CheckpointError(
                "does not fit the model of its own config, which is made in more steps than its weights need"
            )
        return func(*args, **(kwargs or {}))
