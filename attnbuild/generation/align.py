"""Which source positions the decoder looked at while it wrote an output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attnbuild.generation.base import SearchPlace
from attnbuild.memory import Memory

__all__ = ["align"]


@torch.no_grad()
def align(
    decoder: Callable[..., Any], memory: Memory, tokens: Sequence[Sequence[int]], place: SearchPlace
) -> list[Tensor] | None:
    """Cross-attention weights of given outputs, one output a sentence, by feeding them in (teacher forcing).

    Args:
        decoder: called as ``decoder(target_in, memory, need_weights=True)``; gives ``Decoded`` with weights
            (B, heads, T, S).
        memory: the encoded inputs of B sentences.
        tokens: B outputs, without begin and end tokens.
        place: the special tokens.

    Returns:
        For each sentence (heads, T + 1, S) without padding: row t belongs to the choice of token t, the
        last row to the end token. None when the decoder's attention has no weights to show.
    """
    device = memory.states.device
    fed = [torch.tensor([place.bos_id, *output], device=device) for output in tokens]
    target_in = pad_sequence(fed, batch_first=True, padding_value=place.pad_id)
    weights = decoder(target_in, memory, need_weights=True).weights
    if weights is None:
        return None
    mask = memory.key_padding_mask
    real = torch.ones(memory.states.shape[:2], dtype=torch.bool, device=device) if mask is None else ~mask
    return [row[:, : len(output), keys] for row, output, keys in zip(weights, fed, real, strict=True)]
