"""Attention for users who only want the layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.heads import Heads
from attnbuild.attention.place import Place
from attnbuild.attention.presets import load_preset, preset_summary
from attnbuild.attention.spec import AttentionSpec
from attnbuild.errors import ConfigError
from attnbuild.registry import Option, options_of

__all__ = ["build_attention", "build_block", "describe"]


def build_attention(
    preset: str | Mapping[str, Any],
    *,
    dim: int,
    memory_dim: int | None = None,
    causal: bool = False,
    sequential: bool = False,
    layer: int = 0,
    grid: tuple[int, int] | None = None,
    extra: int = 0,
    **options: Any,
) -> AttentionBlock:
    """Build an attention layer.

    Args:
        preset: a name of ``attnbuild.list_names("attention")``, or a mapping such as
            ``{"type": "soft", "score": "additive"}``.
        dim: width of the queries.
        memory_dim: width of the memory in cross-attention; None = self-attention.
        causal: position i may not see j > i (self-attention only).
        sequential: queries come one by one, as in a recurrent decoder; some attentions serve nowhere else.
        layer: index of the layer, for attentions that differ by layer.
        grid: (height, width) where the positions are cells of an image, row by row.
        extra: positions before the first cell: a class token.
        **options: any option of the attention: ``heads=8, window=16``.

    Returns:
        A ``torch.nn.Module``: ``layer(query, memory=None, key_padding_mask=None, need_weights=False)``.

    Raises:
        ConfigError: an unknown name or option, a bad value, or something the attention cannot do.

    Example:
        >>> import torch
        >>> layer = build_attention("window", dim=32, heads=4, window=2, causal=True)
        >>> layer(torch.zeros(1, 5, 32)).shape
        torch.Size([1, 5, 32])
    """
    config = load_preset(preset) if isinstance(preset, str) else dict(preset)
    cross = memory_dim is not None
    if cross and causal:
        raise ConfigError("cross-attention has no order of its own to be causal in: leave out causal or memory_dim")
    width = dim if memory_dim is None else memory_dim
    kind = {"cross": cross, "causal": causal, "sequential": sequential, "cells": grid is not None}
    place = Place("attention", dim, width, layer, grid, extra, **kind)
    return build_block(AttentionSpec.from_config({**config, **options}), place)


def build_block(spec: AttentionSpec, place: Place) -> AttentionBlock:
    """Build the attention of a spec at a place.

    Raises:
        ConfigError: the attention cannot serve the place, or does not fit its widths.
    """
    why = spec.capabilities.refusal(place)
    if why:
        kind = f"{'causal ' if place.causal else ''}{'cross' if place.cross else 'self'}-attention"
        name = spec.preset or spec.core.name
        raise ConfigError(f"{name!r} cannot serve as {kind}: {why}", place.name)
    return AttentionBlock(place, spec)


def describe(name: str) -> dict[str, Any]:
    """What ``attnbuild list attention`` tells of a preset.

    Returns:
        ``name``, ``summary`` (with the paper), ``parts`` by kind, ``options`` (name, type, default in this
        preset, help), ``capabilities``, and ``reasons`` for those it lacks.
    """
    config = load_preset(name)
    spec = AttentionSpec.from_config(config)
    parts = [spec.core, *spec.parts.values()]
    options: dict[str, Option] = dict(options_of(Heads))
    for part in parts:
        options.update(options_of(part.maker))
    can = spec.capabilities
    return {
        "name": name,
        "summary": preset_summary(name),
        "parts": {part.kind: part.name for part in parts},
        "options": [
            {
                "name": option.name,
                "type": option.annotation,
                "default": config.get(option.name, option.default),
                "help": option.help,
            }
            for option in options.values()
        ],
        "capabilities": {key: getattr(can, key) for key in vars(can) if key != "reasons"},
        "reasons": dict(can.reasons),
    }
