"""Rotations of query and key."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from attnbuild.attention.place import HeadPlace
from attnbuild.attention.positions.base import Position
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["RoPE"]


def _even(place: HeadPlace) -> str:
    """A number of heads that are of an even width, as advice; nothing where there is none."""
    fit = [heads for heads in range(1, place.heads) if place.dim % heads == 0 and place.dim // heads % 2 == 0]
    return f"heads={fit[-1]} and kv_heads=null, or " if fit else ""


@register("position", "rope")
class RoPE(Position):
    """Rotary embedding: pairs of channels are turned by position x frequency (Su et al. 2021, equation 34).

    Args:
        rope_base: the base of the geometric series of wavelengths.
    """

    needs_dot_like = True

    def __init__(self, place: HeadPlace, *, rope_base: Annotated[float, Gt(1)] = 10000.0) -> None:
        super().__init__(place)
        if place.key_dim % 2:
            raise ConfigError(
                f"'rope' turns pairs of channels, and a head is {place.key_dim} wide: set {_even(place)}position=alibi",
                f"{place.name}.position",
            )
        self.frequencies = [rope_base ** (-2 * pair / place.key_dim) for pair in range(place.key_dim // 2)]

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        # Angles in fp32 at least: bf16 has no room for position x frequency.
        precision = torch.promote_types(states.dtype, torch.float32)
        frequencies = torch.tensor(self.frequencies, dtype=precision, device=states.device)
        angles = positions.to(precision).unsqueeze(-1) * frequencies
        cos, sin = angles.cos(), angles.sin()
        even, odd = states[..., 0::2].to(precision), states[..., 1::2].to(precision)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.flatten(-2).to(states.dtype)
