"""How much memory a call takes: the ledger of the allocator, not samples of the process.

On a CPU, PyTorch's profiler writes down every block that the allocator hands out and takes back. So tensors
that autograd saves, those made inside custom autograd functions and the scratch space of kernels all count,
the same in every run. The resident size of a process has none of that: an allocator keeps what was freed.
On CUDA, PyTorch keeps the ledger itself.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.autograd import profiler

__all__ = ["MemoryUse", "available_memory", "measure_memory"]


@dataclass(frozen=True)
class MemoryUse:
    """Bytes beyond what was there before a call.

    Attributes:
        peak: the most at any moment of the call.
        left: what is still there at its end, the result included: after a forward pass, what its backward needs.
    """

    peak: int
    left: int


def measure_memory(call: Callable[[], Any], device: torch.device | str = "cpu") -> MemoryUse:
    """Run a call and watch the allocator of a device."""
    gc.collect(1)  # what earlier calls left in circles shall not be taken back during this one
    if torch.device(device).type == "cuda":
        return _on_cuda(call, device)
    watched = profiler.profile(use_cpu=True, profile_memory=True)
    with _without_notices():
        watched.__enter__()
    try:
        result = call()
    finally:
        with _without_notices():
            watched.__exit__(None, None, None)
    del result
    assert watched.kineto_results is not None
    events: list[Any] = watched.kineto_results.events()
    blocks = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    live = list(accumulate((event.nbytes() for event in blocks), initial=0))
    return MemoryUse(max(live), live[-1])


def _on_cuda(call: Callable[[], Any], device: torch.device | str) -> MemoryUse:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    left = torch.cuda.memory_allocated(device)
    del result
    return MemoryUse(torch.cuda.max_memory_allocated(device) - before, left - before)


@contextmanager
def _without_notices() -> Iterator[None]:
    """The profiler announces its start and stop on standard error, whatever its log level."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be had on a device; None where the system does not say."""
    if torch.device(device).type == "cuda":
        # What PyTorch's allocator keeps of freed blocks is there for the next call too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    free = [found for found in (_of_the_machine(), _of_the_container()) if found is not None]
    return min(free, default=None)


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(size) * 1024 for name, size, *_ in found if name == "MemAvailable:"), None)


def _of_the_container(group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a control group (a container, a batch job) still grants; pages of files that it may drop are not used."""
    try:
        limit, used, detail = (
            (group / name).read_text(encoding="ascii").strip()
            for name in ("memory.max", "memory.current", "memory.stat")
        )
    except OSError:
        return None
    counts = dict(line.split() for line in detail.splitlines())
    return None if limit == "max" else int(limit) - int(used) + int(counts.get("inactive_file", 0))
