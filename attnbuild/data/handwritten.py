"""Handwritten digits that come with scikit-learn: Alpaydin and Kaynak 1998, 1,797 pictures of 8 x 8 pixels."""

from __future__ import annotations

import random
from functools import cache

import numpy as np

from attnbuild.data.readers.base import SPLITS

__all__ = ["SIDE", "handwritten_digits"]

#: Of a picture, in pixels.
SIDE = 8

_SIZES = {"train": 1257, "validation": 180, "test": 360}

#: What the splits are drawn from. It stays: scores are compared from run to run and from task to task.
_SEED = 1


@cache
def handwritten_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a split; no picture is in two.

    Args:
        split: ``train``, ``validation`` or ``test``.

    Returns:
        Grey pixels, ink bright, shape (digits, 8, 8), uint8; and what they show, 0 to 9, shape (digits,).
    """
    from sklearn.datasets import load_digits

    stored = load_digits()
    order = random.Random(_SEED).sample(range(len(stored.target)), len(stored.target))
    start = sum(_SIZES[earlier] for earlier in SPLITS[: SPLITS.index(split)])
    chosen = order[start : start + _SIZES[split]]
    # Stored from 0 to 16: counts of the dots of ink in a square of 4 x 4.
    return np.round(stored.images[chosen] * (255 / 16)).astype(np.uint8), stored.target[chosen]
