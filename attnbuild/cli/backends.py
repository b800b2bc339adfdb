"""Which backend runs the attention of each place, at which lengths, and why: a part of ``attnbuild show``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from attnbuild.attention.backends.base import Need

__all__ = ["Choice", "chosen_backends", "print_backends"]

#: Lengths that are looked at, and one more than the few that have a backend of their own.
LENGTHS = tuple(1 << power for power in range(4, 15))


@dataclass(frozen=True)
class Choice:
    """What runs at a place, or at one of its layers where they differ.

    Attributes:
        place: ``encoder.attention``.
        layer: index of the layer; None: all of them.
        device: where.
        changes: from which length on which backend serves, and why; the first from whatever length.
    """

    place: str
    layer: int | None
    device: str
    changes: tuple[tuple[int, str, str], ...]

    def row(self) -> tuple[str, str, str]:
        """For people: the place, ``sdpa, from 512 blocksparse (cpu)``, the reasons."""
        names = [name if length == LENGTHS[0] else f"from {length} {name}" for length, name, _ in self.changes]
        place = self.place.replace(".", "/") + ("" if self.layer is None else f" {self.layer}")
        reasons = dict.fromkeys(why for _, _, why in self.changes)
        return place, f"{', '.join(names)} ({self.device})", "; ".join(reasons)

    def record(self) -> dict[str, Any]:
        """For programs."""
        backends = [
            {"from_length": 1 if length == LENGTHS[0] else length, "backend": name, "why": why}
            for length, name, why in self.changes
        ]
        return {"place": self.place, "layer": self.layer, "device": self.device, "backends": backends}


def print_backends(chosen: Sequence[Choice]) -> None:
    """One row a place, or a layer where the layers of a place differ; cores that run in one way alone have none."""
    from attnbuild.cli.tables import console, table

    if chosen:
        console().print(table(("place", "backend", "why"), [choice.row() for choice in chosen]))
        print()


def chosen_backends(model: nn.Module, trainer: dict[str, Any]) -> list[Choice]:
    """For training on the device at hand, as the config's section ``trainer`` says."""
    import torch

    from attnbuild.attention.block import AttentionBlock
    from attnbuild.attention.core.longformer import Longformer
    from attnbuild.attention.core.soft import Soft
    from attnbuild.training.precision import precision_of

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if precision_of(trainer).startswith("bf16") else torch.float32
    by_place: dict[str, list[Choice]] = {}
    for block in model.modules():
        if isinstance(block, AttentionBlock) and isinstance(block.core, (Soft, Longformer)):
            need = replace(block.core.need(), device=device, dtype=dtype, gradient=True)
            changes = _changes(need, getattr(block.core, "backend", "auto"))
            layers = by_place.setdefault(block.place.name, [])
            layers.append(Choice(block.place.name, len(layers), device, changes))
    chosen = []
    for layers in by_place.values():
        alike = len({choice.changes for choice in layers}) == 1
        chosen += [replace(layers[0], layer=None)] if alike else layers
    return chosen


def _changes(need: Need, backend: str) -> tuple[tuple[int, str, str], ...]:
    """Where on the way to greater lengths another backend takes over, and its reason there."""
    from attnbuild.attention.backends.choose import BACKENDS, Chosen, choose, few_keys

    changes: list[tuple[int, Chosen]] = []
    for length in sorted({*LENGTHS, few_keys(need.dtype) + 1}):
        at = replace(need, queries=length, keys=length)
        named = backend != "auto" and BACKENDS[backend].refusal(at) is None
        chosen = Chosen(backend, "named in the config") if named else choose(at)
        if not changes or changes[-1][1].name != chosen.name:
            changes.append((length, chosen))
    return tuple((length, chosen.name, chosen.why) for length, chosen in changes)
