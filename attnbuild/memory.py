"""What an encoder hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from attnbuild.attention.choice import Choice

__all__ = ["Memory", "masked_mean"]


@dataclass
class Memory:
    """The encoded input.

    Attributes:
        states: (B, S, D), one vector a position.
        key_padding_mask: (B, S), True = padding, as in ``torch.nn.MultiheadAttention``; None = no padding.
        summary: (B, D), the whole input in one vector: an RNN's final state or the masked mean.
        grid: (height, width) of the cells when the positions are cells of a picture, row by row.
        choices: what sampled attentions chose while encoding.
    """

    states: Tensor
    key_padding_mask: Tensor | None
    summary: Tensor
    grid: tuple[int, int] | None = None
    choices: list[Choice] = field(default_factory=list)


def masked_mean(states: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """Mean over the real positions: (B, S, D), (B, S) -> (B, D); 0 where a row is all padding."""
    if key_padding_mask is None:
        return states.mean(dim=1)
    real = (~key_padding_mask).unsqueeze(-1).to(states.dtype)
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
