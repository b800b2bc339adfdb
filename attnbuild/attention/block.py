"""The attention block: project, split heads, attend, merge heads, project."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbuild.attention.choice import Choice
from attnbuild.attention.core.base import Attended, Core
from attnbuild.attention.heads import Heads
from attnbuild.attention.parts import CorePlace, Parts
from attnbuild.attention.place import HeadPlace, Place
from attnbuild.attention.spec import AttentionSpec
from attnbuild.attention.state import State, decoded
from attnbuild.errors import ConfigError, DataError, nearest_divisors
from attnbuild.linear import Linear
from attnbuild.memory import Memory, masked_mean
from attnbuild.step_gradients.gathering import read_by_steps

__all__ = ["AttentionBlock"]


class AttentionBlock(nn.Module):
    """One attention of a model, of any kind, at its place.

    Args:
        place: where it stands.
        spec: what it is made of.

    Attributes:
        place: where it stands.
        spec: what it is made of.
        out_dim: width of the output: ``dim`` with projections, ``memory_dim`` without.
        max_len: the longest input that its core and all parts serve; None = any.
    """

    def __init__(self, place: Place, spec: AttentionSpec) -> None:
        super().__init__()
        self.place, self.spec = place, spec
        options = Heads(**spec.block)
        self.heads, self.kv_heads = options.heads, options.kv_heads or options.heads
        self._check_heads(options.projections)
        projected, bias = options.projections == "all", options.bias
        self.out_dim = place.dim if projected else place.memory_dim
        width = place.dim // self.heads
        inner = self.heads * width
        self.split_heads = projected and not getattr(spec.core.maker, "owns_projections", False)
        self.reads_key = spec.reads_key
        remembered = self.kv_heads * width
        self.query_projection = _linear(place.dim, inner, bias) if self.split_heads else nn.Identity()
        self.key_projection = (
            _linear(place.memory_dim, remembered, bias) if self.split_heads and self.reads_key else nn.Identity()
        )
        self.value_projection = _linear(place.memory_dim, remembered, bias) if self.split_heads else nn.Identity()
        self.out_projection = _linear(inner, place.dim, bias) if projected else nn.Identity()
        self.core, self.max_len = self._build_core(
            width if self.split_heads else place.dim, width if self.split_heads else place.memory_dim
        )

    def _check_heads(self, projections: str) -> None:
        if projections == "all" and not getattr(self.spec.core.maker, "reads_query", True):
            raise ConfigError(
                f"the core {self.spec.core.name!r} reads neither query nor key, so their projections would never "
                "learn: set projections=none and heads=1 and kv_heads=null",
                f"{self.place.name}.projections",
            )
        if projections == "none" and getattr(self.spec.core.maker, "owns_projections", False):
            raise ConfigError(
                f"the core {self.spec.core.name!r} makes queries, keys and values by matrices of its own: "
                "set projections=all",
                f"{self.place.name}.projections",
            )
        if projections == "none" and (self.heads, self.kv_heads) != (1, 1):
            raise ConfigError(
                "without projections there is one head: set heads=1 and kv_heads=null, or projections=all",
                f"{self.place.name}.heads",
            )
        if self.place.dim % self.heads:
            raise ConfigError(
                f"{self.heads} heads do not divide the width {self.place.dim}: "
                f"choose {nearest_divisors(self.heads, self.place.dim)}",
                f"{self.place.name}.heads",
            )
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"{self.kv_heads} key heads do not divide {self.heads} heads: "
                f"choose {nearest_divisors(self.kv_heads, self.heads)}",
                f"{self.place.name}.kv_heads",
            )

    def _build_core(self, query_dim: int, key_dim: int) -> tuple[Core, int | None]:
        """The core, and the longest input of the core and its parts."""
        heads = HeadPlace(
            **vars(self.place),
            heads=self.heads,
            kv_heads=self.kv_heads,
            query_dim=query_dim,
            key_dim=key_dim,
            value_dim=key_dim,
        )
        built = {kind: part.build(heads) for kind, part in self.spec.parts.items()}
        core = self.spec.core.build(CorePlace(**vars(heads), parts=Parts(**built) if built else None))
        limits = (getattr(part, "max_len", None) for part in (core, *built.values()))
        return core, min((limit for limit in limits if limit is not None), default=None)

    def forward(
        self,
        query: Tensor,
        memory: Tensor | None = None,
        *,
        key_padding_mask: Tensor | None = None,
        summary: Tensor | None = None,
        need_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: (B, N, dim).
            memory: (B, S, memory_dim) in cross-attention; None in self-attention.
            key_padding_mask: (B, S), True = padding.
            summary: (B, memory_dim), for the fixed context; None = the masked mean of the memory.
            need_weights: also return the weights, by the reference path with the same parameters.

        Returns:
            (B, N, out_dim), and with ``need_weights`` the weights (B, heads, N, S), or None where the core has none.

        Raises:
            ConfigError: memory given to a layer built for self-attention, or missing from one for
                cross-attention; a mask that is not bool.
            DataError: the input is longer than ``max_len``.
        """
        if key_padding_mask is not None and key_padding_mask.dtype != torch.bool:
            raise ConfigError(
                f"key_padding_mask is {key_padding_mask.dtype}: it must be bool, True = padding", self.place.name
            )
        if (memory is None) == self.place.cross:
            built, fix = ("cross", "call it with memory") if self.place.cross else ("self", "build it with memory_dim=")
            raise ConfigError(f"this layer was built for {built}-attention: {fix}", self.place.name)
        states = query if memory is None else memory
        if summary is None:
            summary = masked_mean(states, key_padding_mask)
        attended = self.attend(query, Memory(states, key_padding_mask, summary), need_weights)
        return (attended.values, attended.weights) if need_weights else attended.values

    def attend(self, query: Tensor, memory: Memory, need_weights: bool = False) -> Attended:
        """Whole sequences: (B, N, dim) and the memory -> values (B, N, out_dim)."""
        key, value, key_padding_mask = self._keys_and_values(memory)
        attended = self.core.attend(self._queries(query), key, value, key_padding_mask, need_weights)
        return self._merge(attended)

    def start(self, memory: Memory) -> State:
        """The state before the first token is decoded; in self-attention the memory only gives batch and device."""
        if not self.place.cross:
            return self.core.begin(memory.states)
        key, value, key_padding_mask = self._keys_and_values(memory)
        return self.core.remember(key, read_by_steps(value), key_padding_mask)

    def step(self, query: Tensor, state: State, sentences: int, need_weights: bool = False) -> tuple[Attended, State]:
        """One token of every row.

        Args:
            query: (R, 1, dim), the beams of all sentences, sentence by sentence.
            state: from ``start`` or the last ``step``.
            sentences: how many sentences the rows belong to.
            need_weights: also return weights (R, heads, 1, S).

        Returns:
            values (R, 1, out_dim) and the next state.
        """
        if self.place.cross:
            # The beams of a sentence share its keys: they stand side by side as queries.
            beams = query.view(sentences, -1, query.shape[-1])
            attended, state = self.core.recall(self._queries(beams), state, need_weights)
            attended = _one_row_a_query(attended)
        else:
            if self.max_len is not None:
                self._require_length(decoded(state) + 1)
            key, value = self._project(query)
            attended, state = self.core.extend(self._queries(query), key, value, state, need_weights)
        return self._merge(attended), state

    def _queries(self, query: Tensor) -> Tensor:
        return _split(self.query_projection(query), self.heads if self.split_heads else 1)

    def _project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.kv_heads if self.split_heads else 1
        value = _split(self.value_projection(states), heads)
        return _split(self.key_projection(states), heads) if self.reads_key else value, value

    def _keys_and_values(self, memory: Memory) -> tuple[Tensor, Tensor, Tensor | None]:
        seen = self.core.see(memory)
        self._require_length(seen.states.shape[1])
        return *self._project(seen.states), seen.key_padding_mask

    def _require_length(self, length: int) -> None:
        if self.max_len is not None and length > self.max_len:
            option = f"{self.spec.path}.max_len"
            raise DataError(
                f"{self.place.name}: an input of {length} positions is longer than {option}={self.max_len}, and others "
                f"may be longer still: set {option} to the longest there is and train again, or leave long inputs out"
            )

    def _merge(self, attended: Attended) -> Attended:
        merged = attended.values.transpose(1, 2).flatten(2)
        return Attended(self.out_projection(merged), attended.weights, attended.choice)


def _split(states: Tensor, heads: int) -> Tensor:
    """(B, N, heads x D) -> (B, heads, N, D)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _one_row_a_query(attended: Attended) -> Attended:
    """(B, H, beams, ...) -> (B x beams, H, 1, ...), and (B, beams) -> (B x beams, 1)."""

    def heads_first(tensor: Tensor) -> Tensor:
        return tensor.transpose(1, 2).flatten(0, 1).unsqueeze(2)

    choice = attended.choice
    if choice is not None:
        log_prob, entropy = choice.log_prob.flatten().unsqueeze(1), choice.entropy.flatten().unsqueeze(1)
        choice = Choice(log_prob, entropy, choice.policy)
    weights = None if attended.weights is None else heads_first(attended.weights)
    return Attended(heads_first(attended.values), weights, choice)


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    """Xavier uniform weights (Glorot and Bengio 2010), as tensor2tensor has them, and zero biases."""
    layer = Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
