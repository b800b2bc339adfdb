"""PyTorch's fused scaled dot product attention: dot-like scores under softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend"]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    allowed: Tensor | None,
    bias: Tensor | None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(scale * query key' + bias) value, without the (N, S) matrix where the device can.

    Args:
        query: (B, H, N, D), transformed by the score.
        key: (B, K, S, D), transformed by the score; K divides H.
        value: (B, K, S, Dv).
        scale: factor of the product.
        allowed: bool, broadcastable to (B, H, N, S), True = may be seen; None = all (but see is_causal).
        bias: added to the scores, broadcastable; None = nothing.
        is_causal: position i sees j <= i, without a mask; only where ``allowed`` and ``bias`` are None and N == S.
        dropout: probability of dropping a weight; 0 outside training.

    Returns:
        values (B, H, N, Dv); rows without any allowed key are 0.
    """
    mask, empty = bias, None
    if allowed is not None:
        # Kernels differ on rows without keys (0, NaN or a mean): such rows see all, and are zeroed after.
        empty = ~allowed.any(dim=-1, keepdim=True)
        allowed = allowed | empty
        mask = allowed if bias is None else bias.masked_fill(~allowed, -torch.inf)
    values = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return values if empty is None else values.masked_fill(empty, 0.0)
