"""What each query of a built attention sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnbuild import build_attention


def seen_by(preset: str, length: int, **options: Any) -> Tensor:
    """Whether query i sees key j in each head, from the weights of a layer in float64: (H, N, N)."""
    torch.manual_seed(0)
    layer = build_attention(preset, dim=16, **options).double().eval()
    _, weights = layer(torch.randn(1, length, 16, dtype=torch.float64), need_weights=True)
    return weights[0] > 0
