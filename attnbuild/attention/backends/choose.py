"""Which backend runs an attention, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

from attnbuild.attention.backends import blocksparse, flex, reference, sdpa
from attnbuild.attention.backends.base import Answer, Call, Need
from attnbuild.attention.backends.plan import keys_per_query

__all__ = ["BACKENDS", "Chosen", "choose", "few_keys"]

BACKENDS: dict[str, ModuleType] = {"reference": reference, "sdpa": sdpa, "blocksparse": blocksparse, "flex": flex}

# Where dense kernels are still the faster ones, by kind of device. CPU: measured forward + backward in fp32 with 8
# heads of 64 on one thread, windows of 8 to 1024 at lengths of 64 to 2048, batch x length of 2048, causal and not:
# the tiles win where the sequence is 1.7 to 1.9 times as long as a query sees keys in them (1.1 times as fast at
# 1.9, 2 at 3.6, 5 at 8), and never at 128. CUDA: not measured yet, cautious.
CROSSING = {"cpu": 1.8, "cuda": 4.0}
SHORTEST = {"cpu": 192, "cuda": 2048}

#: The most queries and keys that learn faster on a CPU by their definition than by the fused kernels, whose blocks
#: are made for more. Forward + backward of 2048 tokens in fp32, 4 heads of 32 or 64, or 8 of 64: 1.3 to 2.9 times as
#: fast on two threads of Zen 4 with 24 keys or less, 0.8 to 1.4 on one, mostly 1.1; with 64 keys 1 to 1.4, 0.6 to 1.
#: In bf16 the fused one is slow for longer: 8 to 11 times as fast with 16 keys, 2.1 to 2.5 with 128, 1 to 1.4 with 256.
_FEW_KEYS, _FEW_KEYS_IN_BF16 = 24, 128


@dataclass(frozen=True)
class Chosen:
    """A backend and the reason for it, as ``attnbuild show`` tells it."""

    name: str
    why: str

    @property
    def run(self) -> Callable[[Call], Answer]:
        return BACKENDS[self.name].run


def few_keys(dtype: torch.dtype | None) -> int:
    """The most queries and keys that learn by their definition on a CPU."""
    return _FEW_KEYS_IN_BF16 if dtype is torch.bfloat16 else _FEW_KEYS


def choose(need: Need) -> Chosen:
    """The fastest backend that can serve, by what was measured."""
    refused = sdpa.refusal(need)
    if refused:
        return Chosen("reference", refused)
    if need.gradient and need.device == "cpu":
        if need.queries == 1:
            return Chosen("reference", "a single query learns faster by products of numbers")
        if need.queries and need.keys and max(need.queries, need.keys) <= few_keys(need.dtype):
            return Chosen("reference", f"up to {few_keys(need.dtype)} queries and keys learn faster by plain products")
    refused = blocksparse.refusal(need)
    if refused:
        return Chosen("sdpa", refused)
    device, length = need.device or "cpu", need.queries
    if length is None:
        return Chosen("blocksparse", "only what the pattern shows, at lengths where that is less")
    if device == "cuda" and flex.refusal(need) is None and length >= SHORTEST["cuda"]:
        return Chosen("flex", f"one kernel for the pattern's blocks, at {length} on cuda")
    shortest = SHORTEST.get(device, SHORTEST["cuda"])
    if length < shortest:
        return Chosen("sdpa", f"dense kernels are faster below {shortest}")
    pieces = need.parts.pattern.pieces()
    seen = keys_per_query(pieces, length, need.place.causal, need.place.heads)
    if length < seen * CROSSING.get(device, CROSSING["cuda"]) * max(piece.price for piece in pieces):
        return Chosen("sdpa", f"the pattern's tiles hold {seen:.0f} keys a query, too many at {length}")
    return Chosen("blocksparse", f"the pattern's tiles hold {seen:.0f} keys a query of {length}")
