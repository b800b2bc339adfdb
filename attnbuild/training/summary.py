"""summary.json: the results of a run and the circumstances they came about in."""

from __future__ import annotations

import logging
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from attnbuild.training.run import RunFolder

__all__ = ["Summary", "parameter_count", "peak_memory_mb"]

_log = logging.getLogger(__name__)

_PACKAGES = ("attnbuild", "torch", "lightning", "torchmetrics", "hydra-core", "sacrebleu", "tokenizers")


class Summary:
    """The summary of one run, written at the start, now and then, and at the end.

    ``status`` is "running", "ok", "failed", "oom" (out of memory) or "interrupted"; a run that was
    killed stays "running".

    Args:
        run: the run folder.
        config: the resolved config.
        typed: what the user typed.
        rank: which process this is; only the first writes.
    """

    def __init__(self, run: RunFolder, config: dict[str, Any], typed: list[str], rank: int = 0) -> None:
        self.run = run
        self.rank = rank
        self.earlier = run.read_summary().get("wall_seconds", 0.0) if config["resume"] else 0.0
        self.started = time.monotonic()
        self.values: dict[str, Any] = {
            "task": config["task"]["type"],
            "status": "running",
            "metrics": {},
            "signatures": {},
            "baselines": {},
            "search": {},
            "places": _places(config),
            "parameters": None,
            "precision": None,
            "wall_seconds": self.earlier,
            "peak_memory_mb": None,
            "skipped_updates": 0,
            "overrides": typed,
            "versions": _versions(),
        }
        self.write()

    def update(self, **values: Any) -> None:
        """Set values, and write."""
        self.values.update(values)
        self.write()

    def add(self, name: str, values: dict[str, Any]) -> None:
        """Add to one of the dicts: metrics, signatures, search."""
        self.values[name] = {**self.values[name], **values}

    def write(self) -> None:
        """Write summary.json as of now."""
        self.values["wall_seconds"] = round(self.earlier + time.monotonic() - self.started, 2)
        self.values["peak_memory_mb"] = peak_memory_mb()
        if self.rank == 0:
            self.run.write_summary(self.values)


def parameter_count(model: torch.nn.Module) -> int:
    """How many numbers are trained; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def peak_memory_mb() -> float:
    """The most memory that this process used: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _places(config: dict[str, Any]) -> dict[str, Any]:
    """Which attention each place got, and why where it is not the one asked for."""
    if "attention" not in config:
        return {}
    from attnbuild.places import resolve_places

    places = resolve_places(config).choices.items()
    return {name: {"preset": choice.preset, "reason": choice.reason} for name, choice in places}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
