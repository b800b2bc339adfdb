"""The position-wise network of a Transformer layer."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from attnbuild.dropout import Dropout
from attnbuild.linear import Linear

__all__ = ["Activation", "FeedForward"]

Activation = Literal["relu", "gelu", "silu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class FeedForward(nn.Module):
    """W2 act(W1 x + b1) + b2 (Vaswani et al. 2017, equation 2), dropout after the activation."""

    def __init__(self, dim: int, hidden: int, *, activation: Activation = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = Linear(dim, hidden)
        self.activation = _ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.contract = Linear(hidden, dim)

    def forward(self, states: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.contract(self.dropout(self.activation(self.expand(states))))
