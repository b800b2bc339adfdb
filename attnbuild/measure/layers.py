"""Attention layers as calls to be measured: forward, or forward and backward, at any length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.attention import build_attention
from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.heads import Heads
from attnbuild.attention.spec import AttentionSpec
from attnbuild.registry import options_of

__all__ = ["Bench", "declared_options", "pass_through"]


@dataclass(frozen=True)
class Bench:
    """How layers are measured.

    Attributes:
        dim: width of the states.
        heads: number of heads, of the presets that have more than one.
        batch: sequences.
        causal: position i may not see j > i.
        cross: attend to a second sequence of the same length.
        backward: also the gradients of inputs and parameters.
        dtype: of states and parameters.
        device: where.
        longest: what presets with a longest length (``max_len``) are built for.
        options: options of the attention, for the presets that declare them.
    """

    dim: int = 512
    heads: int = 8
    batch: int = 1
    causal: bool = False
    cross: bool = False
    backward: bool = True
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    longest: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, config: Mapping[str, Any]) -> AttentionBlock:
        """The layer of a preset, with the options that it declares.

        Raises:
            ConfigError: the preset cannot serve the place, or an option cannot be what it was set to.
        """
        torch.manual_seed(0)
        memory_dim = self.dim if self.cross else None
        layer = build_attention(self._fitted(config), dim=self.dim, memory_dim=memory_dim, causal=self.causal)
        return layer.to(self.device, self.dtype).train(self.backward)

    def _fitted(self, config: Mapping[str, Any]) -> dict[str, Any]:
        spec = AttentionSpec.from_config(config)
        declared = declared_options(spec)
        fitted = dict(config)
        if spec.block.get("heads", Heads.heads) > 1:
            fitted["heads"] = self.heads
        if "max_len" in declared and (config.get("max_len") or declared["max_len"] or 0) < self.longest:
            fitted["max_len"] = self.longest
        return fitted | {name: value for name, value in self.options.items() if name in declared}

    def call(self, config: Mapping[str, Any], length: int) -> Callable[[], Any]:
        """A call of a new layer at a length."""
        layer, inputs = self.build(config), self.inputs(length)
        grad = self._states(length, layer.out_dim, seed=3).detach()
        return pass_through(lambda: layer(*inputs), [*inputs, *layer.parameters()], grad, self.backward)

    def inputs(self, length: int) -> list[Tensor]:
        """What a layer is called with: the query, and in cross-attention the memory."""
        return [self._states(length, self.dim, seed) for seed in (1, 2)[: 1 + self.cross]]

    def _states(self, length: int, width: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        states = torch.randn(self.batch, length, width, generator=generator)
        return states.to(self.device, self.dtype).requires_grad_(self.backward)


def pass_through(
    forward: Callable[[], Tensor], leaves: list[Tensor] | list[nn.Parameter], grad: Tensor, backward: bool
) -> Callable[[], None]:
    """A call that runs forward, or forward and backward, and keeps nothing.

    Args:
        forward: gives the output.
        leaves: what gradients are for; they are dropped at the end.
        grad: of the output.
        backward: whether gradients are wanted.
    """

    def run() -> None:
        if not backward:
            with torch.no_grad():
                forward()
            return
        forward().backward(grad)
        for leaf in leaves:
            leaf.grad = None

    return run


def declared_options(spec: AttentionSpec) -> dict[str, Any]:
    """Option -> its default, of the block and every part; the kinds of the parts with the names chosen."""
    declared: dict[str, Any] = {kind: part.name for kind, part in spec.parts.items()}
    for owner in (Heads, spec.core.maker, *(part.maker for part in spec.parts.values())):
        declared |= {option.name: option.default for option in options_of(owner).values()}
    return declared
