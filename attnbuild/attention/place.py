"""Where an attention stands in a model: what the builder knows and tells a part."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HeadPlace", "Place", "PlaceKind"]


@dataclass(frozen=True, kw_only=True)
class PlaceKind:
    """What a place for attention asks of the attention.

    Attributes:
        cross: attends to another sequence.
        causal: position i may not see j > i.
        sequential: queries come one by one, each after the last one's outcome, as in a recurrent decoder.
        cells: positions are the cells of an image.
    """

    cross: bool = False
    causal: bool = False
    sequential: bool = False
    cells: bool = False


@dataclass(frozen=True)
class Place(PlaceKind):
    """A place for an attention block.

    Attributes:
        name: ``encoder.attention``, ``decoder.self_attention``, ``decoder.cross_attention``.
        dim: width of the queries, and of the output where projections are used.
        memory_dim: width of what is attended to; equal to ``dim`` in self-attention.
        layer: index of the layer, from 0.
        grid: (height, width) where positions are ``cells``, row by row.
        extra: positions before the first cell: a class token.
    """

    name: str
    dim: int
    memory_dim: int
    layer: int = 0
    grid: tuple[int, int] | None = None
    extra: int = 0


@dataclass(frozen=True)
class HeadPlace(Place):
    """A place as seen within the heads.

    Attributes:
        heads: number of query heads.
        kv_heads: number of key and value heads; divides ``heads``.
        query_dim: width of one head's query.
        key_dim: width of one head's key.
        value_dim: width of one head's value.
    """

    heads: int = 1
    kv_heads: int = 1
    query_dim: int = 1
    key_dim: int = 1
    value_dim: int = 1
