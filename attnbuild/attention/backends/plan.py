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


#: A mask, and the keys of the tile that it is for.
_Corners = tuple[Tensor | None, slice]


@dataclass(frozen=True)
class PlannedTile:
    """A tile, and what of it is masked.

    Attributes:
        tile: the groups and their keys.
        piece: whose tile it is.
        earlier: the pieces whose keys are left out, since they have shown them already.
        fresh: none of its queries has been computed before: there is nothing to merge with.
        causal: whether keys after a query must be left out.
        mask: added to the scores of ``columns``, (1, n, columns), where one mask serves all groups.
        columns: the keys of the tile that the mask concerns; no other is left out.
        masked: whether any key of the tile is left out.
    """

    tile: Tile
    piece: Piece
    earlier: tuple[Piece, ...]
    fresh: bool
    causal: bool
    mask: Tensor | None
    columns: slice
    masked: bool

    def additive(self, tile: Tile, heads: range, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """What is added to the scores of ``columns`` in a part of the tile; None = nothing.

        (heads or 1, groups or 1, n or 1, columns).
        """
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
    area = 0.0
    with torch.device("cpu"):  # where it is planned, whatever the default device
        masks: dict[tuple[int, ...], _Corners] = {}
        for number, piece in enumerate(pieces):
            before = [other for other in pieces[:number] if other.overlaps(piece)]
            earlier = () if piece.apart else tuple(before)
            for tile in piece.tiles(length, causal):
                area += tile.area / piece.heads[1]
                planned.append(_plan_tile(piece, earlier, tile, causal, device, piece.once and not before, masks))
    return Plan(tuple(planned), area)


def _plan_tile(
    piece: Piece,
    earlier: tuple[Piece, ...],
    tile: Tile,
    causal: bool,
    device: torch.device,
    fresh: bool,
    known: dict[tuple[int, ...], _Corners],
) -> PlannedTile:
    causal = causal and not (isinstance(tile.key, Tensor) and _is_past(tile))
    same = tile.same and all(_hides_alike(other, piece) for other in earlier)
    mask, columns = _corners(piece, earlier, tile, causal, device, known) if same else (None, slice(None))
    masked = mask is not None if same else _needs_mask(piece, earlier, tile, causal)
    return PlannedTile(tile.to(device), piece, earlier, fresh, causal, mask, columns, masked)


def keys_per_query(pieces: tuple[Piece, ...], length: int, causal: bool, heads: int) -> float:
    """How many scores a query costs, the masked corners of the tiles included."""
    return make_plan(pieces, length, causal, heads, torch.device("cpu")).area / length


def _hides_alike(earlier: Piece, piece: Piece) -> bool:
    """Whether an earlier piece has shown the same keys to all groups and heads of a piece."""
    return earlier.relative and earlier.heads in ((0, 1), piece.heads)


def _corners(
    piece: Piece,
    earlier: tuple[Piece, ...],
    tile: Tile,
    causal: bool,
    device: torch.device,
    known: dict[tuple[int, ...], _Corners],
) -> _Corners:
    """The mask of the first group, for all; equal ones are one tensor.

    Of the keys between the first and the last that is masked, no others: where queries see all that is before them,
    masks as wide as their tiles would together grow with the square of the length.
    """
    assert isinstance(tile.key, Grid)
    shape = (id(piece), tile.query.count, tile.key.count, tile.query.start - tile.key.start, tile.query.step)
    if shape not in known:
        head = torch.tensor(piece.heads[:1])
        hidden = ~_allowed(piece, earlier, tile.part(0, 1), causal, head).flatten(0, -3)
        masked = hidden.any(dim=1).flatten().nonzero().flatten().tolist()
        columns = slice(masked[0], masked[-1] + 1) if masked else slice(None)
        hidden = hidden[..., columns].to(device)
        mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf) if masked else None
        known[shape] = mask, columns
    return known[shape]


def _needs_mask(piece: Piece, earlier: tuple[Piece, ...], tile: Tile, causal: bool) -> bool:
    if earlier or not piece.exact:
        return True
    if isinstance(tile.key, Tensor):
        return bool((tile.key < 0).any()) or causal
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
    if causal:
        allowed = allowed & (key <= query)
    return allowed
