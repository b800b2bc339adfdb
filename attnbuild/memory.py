"""What an encoder hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from attnbuild.attention.choice import Choice

__all__ = ["Memory", "masked_mean", "padding_mask", "surely_empty"]


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


def padding_mask(tokens: Tensor, pad_id: int) -> Tensor | None:
    """Which token ids are padding, (B, S); None where surely none is, so that nothing pays for a mask."""
    mask = tokens == pad_id
    return None if surely_empty(mask) else mask


def surely_empty(mask: Tensor) -> bool:
    """Whether no element is true, as far as that is cheap to know: on a GPU a look would wait for all that was asked.

    A compiled or exported model serves every input, and must not look.
    """
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and not mask.any()
