"""Which backend runs the attention of each place, at which lengths, and why: a part of ``attnbuild show``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from attnbuild.attention.backends.base import Need

__all__ = ["backend_rows", "print_backends"]

#: Lengths that are looked at.
LENGTHS = tuple(1 << power for power in range(5, 15))


def print_backends(model: nn.Module) -> None:
    """One row a place, or a layer where the layers of a place differ; cores that run in one way alone have none."""
    from attnbuild.cli.tables import console, table

    rows = backend_rows(model)
    if rows:
        console().print(table(("place", "backend", "why"), rows))
        print()


def backend_rows(model: nn.Module) -> list[tuple[str, str, str]]:
    """(place, which backend from which length, why), for training on the device at hand."""
    import torch

    from attnbuild.attention.block import AttentionBlock
    from attnbuild.attention.core.longformer import Longformer
    from attnbuild.attention.core.soft import Soft

    device = "cuda" if torch.cuda.is_available() else "cpu"
    told: dict[str, list[tuple[str, str]]] = {}
    for block in model.modules():
        if isinstance(block, AttentionBlock) and isinstance(block.core, (Soft, Longformer)):
            row = _explain(block.core.need(), getattr(block.core, "backend", "auto"), device)
            told.setdefault(block.place.name.replace(".", "/"), []).append(row)
    rows = []
    for place, layers in told.items():
        if len(set(layers)) == 1:
            rows.append((place, *layers[0]))
        else:
            rows += [(f"{place} {layer}", *row) for layer, row in enumerate(layers)]
    return rows


def _explain(need: Need, backend: str, device: str) -> tuple[str, str]:
    """``sdpa, from 512 blocksparse`` and the reasons of each."""
    from attnbuild.attention.backends.choose import BACKENDS, Chosen, choose

    changes: list[tuple[int, Chosen]] = []
    for length in LENGTHS:
        at = replace(need, device=device, queries=length, keys=length, gradient=True)
        named = backend != "auto" and BACKENDS[backend].refusal(at) is None
        chosen = Chosen(backend, "named in the config") if named else choose(at)
        if not changes or changes[-1][1].name != chosen.name:
            changes.append((length, chosen))
    names = [chosen.name if length == LENGTHS[0] else f"from {length} {chosen.name}" for length, chosen in changes]
    return f"{', '.join(names)} ({device})", "; ".join(dict.fromkeys(chosen.why for _, chosen in changes))
