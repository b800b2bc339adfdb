"""Batch norm needs company: whether a batch may leave it one value for each channel, told before training."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from attnbuild.errors import Problem

__all__ = ["too_few"]


def too_few(model: nn.Module, cells: int, images: int, batch: Mapping[str, int]) -> list[Problem]:
    """The batch size, where one image of one cell may be a whole batch.

    Args:
        model: with its norms, as it is trained.
        cells: positions that the encoder makes of an image.
        images: in the training data.
        batch: the section of the config.
    """
    is_norm = nn.modules.batchnorm._BatchNorm
    normalises = any(isinstance(part, is_norm) and part.training for part in model.modules())
    if cells > 1 or not normalises or _smallest(images, min(batch["rows"], batch["tokens"])) > 1:
        return []
    what = "a batch may be one image, of which the encoder leaves one cell, and batch norm compares several"
    enough = next((rows for rows in range(2, images + 1) if _smallest(images, rows) > 1), None)
    if enough is None:
        return [Problem("batch.rows", f"{what}: raise image.size")]
    low = [name for name in ("rows", "tokens") if batch[name] < enough]
    changes = " and ".join(f"batch.{name}={enough}" for name in low)
    return [Problem(f"batch.{low[0]}", f"{what}: set {changes} or more, or raise image.size")]


def _smallest(images: int, rows: int) -> int:
    """Images in the smallest of batches of at most so many rows, which are as even as can be."""
    return images // math.ceil(images / rows)
