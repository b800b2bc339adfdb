"""How encoders and decoders come by the attentions of their places."""

from __future__ import annotations

from typing import Protocol

from attnbuild.attention.block import AttentionBlock

__all__ = ["AttentionMaker"]


class AttentionMaker(Protocol):
    """Builds the attention that the config chose for a place of the encoder or decoder at hand."""

    def __call__(self, name: str, *, dim: int, memory_dim: int | None = None, layer: int = 0) -> AttentionBlock: ...
