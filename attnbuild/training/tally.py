"""Loss, perplexity and accuracy as sums that add up over batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attnbuild.training.task import Loss

__all__ = ["Tally"]

#: exp(loss) beyond this loss is no number to read, and overflows in the end.
_LARGEST_EXPONENT = 50.0


class Tally:
    """Running sums of losses, weights and right answers, kept on the device so that adding waits for nothing.

    Args:
        device: where the losses come from.
    """

    def __init__(self, device: torch.device) -> None:
        # Apple's GPUs have no float64; elsewhere a long sum must not lose its last digits.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(3, dtype=dtype, device=device)

    def add(self, loss: Loss) -> None:
        """Add a batch."""
        parts = (loss.total, loss.weight, loss.correct)
        self.sums += torch.stack([torch.as_tensor(part).detach().to(self.sums) for part in parts])

    def means(self, reduce: Callable[[Tensor], Tensor], perplexity: bool = True) -> dict[str, float]:
        """Mean loss, perplexity, accuracy, and the weight ("tokens") they are over; empty when that is 0.

        Args:
            reduce: adds a tensor up over all ranks.
            perplexity: whether there is one: the loss is that of text.
        """
        total, weight, correct = reduce(self.sums.clone()).tolist()
        if weight == 0:
            return {}
        loss = total / weight
        means = {"loss": loss, "perplexity": math.exp(min(loss, _LARGEST_EXPONENT))} if perplexity else {"loss": loss}
        return {**means, "accuracy": correct / weight, "tokens": weight}
