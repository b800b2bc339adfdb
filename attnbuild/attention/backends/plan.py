"""What a sparse pattern makes the engine do at a length: tiles, each with the mask of its corners.

A plan depends on the pieces, the length and the device alone, so all layers and steps share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from attnbuild.attention.patterns.pieces import Grid, Piece, Tile

__all__ = ["Plan", "PlannedTile", "keys_per_query", "make_plan"]


@dataclass(frozen=True)
class PlannedTile:
    """A tile, and what of it is masked.

    Attributes:
        tile: the groups and their keys.
        piece: whose tile it is.
        earlier: the pieces whose keys are left out, since they have shown them already.
        fresh: none of its queries has been computed before: there is nothing to merge with.
        mask: added to the scores, (1, n, m), where one mask serves all groups.
        masked: whether any key of the tile is left out.
    """

    tile: Tile
    piece: Piece
    earlier: tuple[Piece, ...]
    fresh: bool
    causal: bool
    mask: Tensor | None
    masked: bool

    def additive(self, tile: Tile, heads: range, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """What is added to the scores of a part of the tile: (heads or 1, groups or 1, n or 1, m); None = nothing."""
        if not self.masked:
            return None
        if self.mask is not None:
            return self.mask.to(dtype).unsqueeze(0)
        allowed = _allowed(
            self.piece,
            self.earlier,
            tile,
            self.causal,
            torch.arange(heads.start, heads.stop, heads.step, device=device),
        )
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, -torch.inf)
        return mask if mask.dim() == 4 else mask.unsqueeze(0)


@dataclass(frozen=True)
class Plan:
    """All tiles of a pattern.

    Attributes:
        tiles: in the order of the pieces.
        area: how many scores the heads compute on average.
    """

    tiles: tuple[PlannedTile, ...]
    area: float


@lru_cache(maxsize=16)
def make_plan(pieces: tuple[Piece, ...], length: int, causal: bool, heads: int, device: torch.device) -> Plan:
    """The tiles of these pieces over a sequence of that length. The last few are kept."""
    planned: list[PlannedTile] = []
    masks: dict[tuple[int, ...], Tensor | None] = {}
    area = 0.0
    for number, piece in enumerate(pieces):
        earlier = tuple(other for other in pieces[:number] if other.overlaps(piece) and not piece.apart)
        for tile in piece.tiles(length, causal):
            area += tile.area / piece.heads[1]
            same = tile.same and all(other.relative for other in earlier)
            mask = _corners(piece, earlier, tile, causal, masks) if same else None
            planned.append(
                PlannedTile(
                    tile.to(device),
                    piece,
                    earlier,
                    fresh=piece.once and not any(other.overlaps(piece) for other in pieces[:number]),
                    causal=causal,
                    mask=None if mask is None else mask.to(device),
                    masked=mask is not None if same else _needs_mask(piece, earlier, tile, causal),
                )
            )
    return Plan(tuple(planned), area)


def keys_per_query(pieces: tuple[Piece, ...], length: int, causal: bool, heads: int) -> float:
    """How many scores a query costs, the masked corners of the tiles included."""
    return make_plan(pieces, length, causal, heads, torch.device("cpu")).area / length


def _corners(
    piece: Piece, earlier: tuple[Piece, ...], tile: Tile, causal: bool, known: dict[tuple[int, ...], Tensor | None]
) -> Tensor | None:
    """The mask of the first group, for all; equal ones are one tensor."""
    assert isinstance(tile.key, Grid)
    shape = (id(piece), tile.query.count, tile.key.count, tile.query.start - tile.key.start, tile.query.step)
    if shape not in known:
        first = tile.part(0, 1)
        allowed = _allowed(piece, earlier, first, causal, torch.zeros(1, dtype=torch.long))
        known[shape] = None if bool(allowed.all()) else torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)
    return known[shape]


def _needs_mask(piece: Piece, earlier: tuple[Piece, ...], tile: Tile, causal: bool) -> bool:
    if earlier or not piece.exact:
        return True
    if isinstance(tile.key, Tensor):
        return bool((tile.key < 0).any()) or (causal and not _is_past(tile))
    return causal and tile.key.last > tile.query.start


def _is_past(tile: Tile) -> bool:
    """Whether no query of a group stands before a key of it."""
    assert isinstance(tile.key, Tensor)
    return bool((tile.key.amax(dim=-1) <= tile.query.positions(tile.key.device)[:, 0]).all())


def _allowed(piece: Piece, earlier: tuple[Piece, ...], tile: Tile, causal: bool, head: Tensor) -> Tensor:
    """The keys of the tile that count for these heads: (groups, n or 1, m), heads before where they differ."""
    query = tile.query.positions(head.device).unsqueeze(-1)
    key = tile.key_positions(head.device)
    key = (key[head] if key.dim() == 3 else key).unsqueeze(-2)
    head = head.view(-1, 1, 1, 1)
    allowed = key >= 0
    if not piece.exact:
        allowed = allowed & piece.sees(head, query, key)
    for other in earlier:
        allowed = allowed & ~other.mask_mod(head, query, key)
    if causal and not (isinstance(tile.key, Tensor) and _is_past(tile)):
        allowed = allowed & (key <= query)
    return allowed
