"""How long the inputs of a model may be, as far as its attentions have a say."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from attnbuild.attention.block import AttentionBlock

__all__ = ["Limit", "longest_allowed"]


class Limit(NamedTuple):
    """A place whose attention serves lengths up to a limit.

    Attributes:
        path: the config path of the option that sets it: ``attention.max_len``.
        max_len: the longest input, in positions.
        place: whose input it is: ``encoder.attention`` the source, ``decoder.self_attention`` the target,
            ``decoder.cross_attention`` the memory.
    """

    path: str
    max_len: int
    place: str


def longest_allowed(model: nn.Module) -> list[Limit]:
    """The limits of all attentions within a model, each once however many layers have it."""
    blocks = (module for module in model.modules() if isinstance(module, AttentionBlock))
    limits = [
        Limit(f"{block.spec.path}.max_len", block.max_len, block.place.name)
        for block in blocks
        if block.max_len is not None
    ]
    return list(dict.fromkeys(limits))
