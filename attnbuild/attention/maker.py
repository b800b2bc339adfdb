"""How encoders and decoders come by the attentions of their places."""

from __future__ import annotations

from typing import Protocol

from attnbuild.attention.block import AttentionBlock

__all__ = ["AttentionMaker"]


class AttentionMaker(Protocol):
    """Builds the attention that the config chose for a place of the encoder or decoder at hand.

    Args as those of ``Place``; ``name`` is one of the encoder's or decoder's places, ``memory_dim`` None in
    self-attention.
    """

    def __call__(
        self,
        name: str,
        *,
        dim: int,
        memory_dim: int | None = None,
        layer: int = 0,
        grid: tuple[int, int] | None = None,
        extra: int = 0,
    ) -> AttentionBlock: ...
