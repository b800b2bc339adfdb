"""In which precision sums, centres and phases are formed, whatever the model computes in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["finest_dtype", "full_precision", "sum_dtype"]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Sums over a whole sequence need single precision at least."""
    return dtype if dtype == torch.float64 else torch.float32


def finest_dtype(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def full_precision(tensor: Tensor) -> AbstractContextManager[None]:
    """The context in which autocast does not lower what is summed."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
