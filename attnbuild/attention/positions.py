"""How place enters an attention: rotations of query and key, or a bias on the scores."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import HeadPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["ALiBi", "NoPosition", "Position", "Relative", "RoPE"]

_SELF_ONLY = Capabilities(
    cross_attention=False,
    reasons={"cross_attention": "its positions compare places in one sequence, and query and key are of two"},
)


class Position(nn.Module):
    """Base of positions: by default nothing is added.

    Attributes:
        needs_dot_like: works only with scores that are a product of query and key.
    """

    capabilities: ClassVar[Capabilities] = _SELF_ONLY
    needs_dot_like: ClassVar[bool] = False

    def __init__(self, place: HeadPlace) -> None:
        super().__init__()

    def rotate(self, states: Tensor, positions: Tensor) -> Tensor:
        """Turn queries or keys by their positions: (B, H, N, D), (N,) -> (B, H, N, D)."""
        return states

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """What is added to the scores, broadcastable to (B, H, N, S); None = nothing.

        Args:
            query: (B, H, N, D), as the score transformed it, times the score's scale.
            query_positions: (N,).
            key_positions: (S,).
        """
        return None


@register("position", "none")
class NoPosition(Position):
    """Place does not enter here."""

    capabilities = Capabilities()


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
                f"rope turns pairs of channels, and a head is {place.key_dim} wide: choose an even width",
                place.name,
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


@register("position", "alibi")
class ALiBi(Position):
    """Minus slope x distance on the scores, a fixed slope a head (Press et al. 2022, 3); |i - j| when not causal."""

    def __init__(self, place: HeadPlace) -> None:
        super().__init__(place)
        self.slopes = alibi_slopes(place.heads)

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        # In fp32 at least: bf16 cannot count beyond 256.
        slopes = torch.tensor(self.slopes, dtype=torch.promote_types(query.dtype, torch.float32), device=query.device)
        distance = (query_positions.unsqueeze(1) - key_positions.unsqueeze(0)).abs()
        return (-slopes.view(1, -1, 1, 1) * distance).to(query.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), ... for n heads; between powers of two, the paper's interleaving."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes + alibi_slopes(2 * power)[0::2][: heads - power] if power < heads else slopes


@register("position", "relative")
class Relative(Position):
    """A learned vector per clipped distance, rated by the query (Shaw et al. 2018, equation 4).

    The paper's second table, added to the values (equation 3), is left out: its own table 3 finds no gain.

    Args:
        max_distance: distances beyond it share one vector.
    """

    needs_dot_like = True

    def __init__(self, place: HeadPlace, *, max_distance: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__(place)
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, place.key_dim))
        nn.init.xavier_uniform_(self.table)

    def bias(self, query: Tensor, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = key_positions.unsqueeze(0) - query_positions.unsqueeze(1)
        row = distance.clamp(-self.max_distance, self.max_distance) + self.max_distance
        rated = query @ self.table.transpose(0, 1)
        return rated.gather(-1, row.expand(*rated.shape[:2], *row.shape))
