"""PyTorch's fused scaled dot product attention: dot-like scores under softmax, sparse patterns as a dense mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attnbuild.attention.backends.base import Answer, Call, Need
from attnbuild.attention.patterns.full import Full
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.memory import surely_empty

__all__ = ["attend", "refusal", "run"]


def refusal(need: Need) -> str | None:
    """Why the fused kernels do not compute this attention; None when they do."""
    if not need.parts.score.dot_like:
        return "it multiplies query and key: it needs a dot-like score"
    # Not isinstance: a weighting derived from Softmax is another function than the kernels'.
    if type(need.parts.weighting) is not Softmax:
        return "its weighting is softmax"
    return None


def run(call: Call) -> Answer:
    """The call by the fused kernels."""
    bias = call.bias()
    is_causal = _is_plainly_causal(call, bias)
    return Answer(
        attend(
            call.query,
            call.key,
            call.value,
            scale=call.parts.score.scale,
            allowed=None if is_causal else call.allowed(),
            bias=bias,
            is_causal=is_causal,
            dropout=call.dropout,
        )
    )


def _is_plainly_causal(call: Call, bias: Tensor | None) -> bool:
    """Whether causality is the only limit, over equal sequences: then no mask need be built."""
    plain = call.place.causal and isinstance(call.parts.pattern, Full)
    return plain and call.whole and call.key_padding_mask is None and bias is None


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
        empty = _empty_rows(allowed)
        allowed = allowed if empty is None else allowed | empty
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


def _empty_rows(allowed: Tensor) -> Tensor | None:
    """The queries that may see no key, (..., N, 1); None where there surely are none."""
    empty = ~allowed.any(dim=-1, keepdim=True)
    return None if surely_empty(empty) else empty  # as most are, and a look costs less than mending right values
