"""A batch that does not fit into memory, told as one: which batch, and which setting to lower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from attnbuild.errors import OutOfMemory

__all__ = ["is_out_of_memory", "out_of_memory_told"]

#: How torch says it, other than by ``torch.OutOfMemoryError``: the CPU, CUDA's driver, cuBLAS, Apple's GPUs.
_SAID = (
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID)


@contextmanager
def out_of_memory_told(describe: Callable[[], str]) -> Iterator[None]:
    """Turn a refusal of memory into an error that a user can act on.

    Args:
        describe: says what was under way and what to lower, asked when it happens.

    Raises:
        OutOfMemory: memory was refused.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutOfMemory(f"out of memory {describe()} [{said}]") from error
