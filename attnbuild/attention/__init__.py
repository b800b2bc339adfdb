"""Attention as a composition of independent choices: core, score, pattern, weighting, position, heads."""

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import build_attention, describe
from attnbuild.attention.place import Place
from attnbuild.attention.presets import load_preset, preset_names
from attnbuild.attention.spec import AttentionSpec

__all__ = [
    "AttentionBlock",
    "AttentionSpec",
    "Place",
    "build_attention",
    "describe",
    "load_preset",
    "preset_names",
]
