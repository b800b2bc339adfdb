"""What an attention can do: one table, stated on the classes.

The builder checks places against it, and the docs, ``attnbuild list`` and the tests are made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

from attnbuild.attention.place import PlaceKind

__all__ = ["Capabilities", "combine"]


@dataclass(frozen=True)
class Capabilities:
    """What a core, or a part that restricts a core, can do.

    Attributes:
        self_attention: may attend within one sequence.
        cross_attention: may attend from one sequence to another.
        causal: position i can be kept from seeing j > i.
        padding: a key padding mask is honoured.
        sequence: serves where positions are no cells of an image.
        parallel: all queries can be known before the first is answered; without it only a recurrent decoder serves.
        incremental: ``step`` gives, token by token, what ``forward`` gives at once.
        weights: ``distribution``: rows sum to 1 and make the output; ``effective``: they reproduce
            the output but need not sum to 1; ``none``: there are none to return.
        linear_memory: memory grows linearly with length.
        differentiable: gradients are exact (no sampling).
        reasons: why a capability is missing, by its name; shown to the user who asks for it.
    """

    self_attention: bool = True
    cross_attention: bool = True
    causal: bool = True
    padding: bool = True
    sequence: bool = True
    parallel: bool = True
    incremental: bool = True
    weights: Literal["distribution", "effective", "none"] = "distribution"
    linear_memory: bool = False
    differentiable: bool = True
    reasons: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def refusal(self, place: PlaceKind) -> str | None:
        """Why a place cannot be served; None when it can."""
        needs = ["cross_attention" if place.cross else "self_attention"]
        needs += ["causal"] if place.causal else []
        needs += [] if place.sequential else ["parallel"]
        needs += [] if place.cells else ["sequence"]
        for name in needs:
            if not getattr(self, name):
                return self.reasons.get(name, f"has no {name.replace('_', '-')}")
        return None


def combine(parts: Iterable[Capabilities]) -> Capabilities:
    """What is left when parts work together: each takes away what it cannot do."""
    parts = list(parts)
    merged = {
        item.name: all(getattr(part, item.name) for part in parts)
        for item in fields(Capabilities)
        if item.name not in ("weights", "linear_memory", "reasons")
    }
    ranking = ("none", "effective", "distribution")
    weights = min((part.weights for part in parts), key=ranking.index)
    reasons = {name: why for part in reversed(parts) for name, why in part.reasons.items()}
    return Capabilities(
        **merged,
        weights=weights,
        linear_memory=any(part.linear_memory for part in parts),
        reasons=MappingProxyType(reasons),
    )
