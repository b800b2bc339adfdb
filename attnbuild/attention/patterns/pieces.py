"""The shapes that sparse patterns are made of, and the tiles in which they are computed.

A piece says two things: its own predicate, and the tiles that cover it: groups of queries that share keys.
Tiles may show a query more keys than the predicate allows (the corners of a band); the backend masks those.

Pieces are frozen dataclasses: equal options make equal pieces, which is what caches are keyed by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ALL", "Band", "Blocks", "Cells", "Columns", "Diagonals", "Grid", "Piece", "Rows", "Table", "Tile"]

#: A distance that no sequence has.
ALL = 1 << 40
#: Queries that share a tile where the piece itself has no block size: more waste work in a band's corners,
#: fewer are slow matrix products. Measured on CPU (AVX-512), forward + backward: for a window of 128, 64 is as good
#: as 32 and faster than 96 and 128; for one of 16, 32 would be a tenth faster.
ROWS = 64
#: Keys of one tile where a query sees very many: its scores stay in the cache.
SPAN = 1024


@dataclass(frozen=True)
class Grid:
    """Regular groups of positions: item i of group g is at ``start + g * jump + i * step``.

    Seen through strides, so nothing is copied.
    """

    start: int
    count: int
    step: int = 1
    groups: int = 1
    jump: int = 0

    @property
    def last(self) -> int:
        """The greatest position."""
        return self.start + (self.groups - 1) * self.jump + (self.count - 1) * self.step

    @property
    def disjoint(self) -> bool:
        """Whether no position is in two groups."""
        span = (self.count - 1) * self.step
        return self.groups == 1 or self.jump > span or (self.groups - 1) * self.jump < self.step

    def part(self, first: int, groups: int) -> Grid:
        """Only some groups."""
        return replace(self, start=self.start + first * self.jump, groups=groups)

    def positions(self, device: torch.device) -> Tensor:
        """(groups, count)."""
        group = torch.arange(self.groups, device=device).unsqueeze(1)
        return self.start + group * self.jump + torch.arange(self.count, device=device) * self.step

    def view(self, tensor: Tensor) -> Tensor:
        """The groups within (B, H, N, D), as (B, H, groups, count, D) over the same storage."""
        batch, heads, _, width = tensor.shape
        row, head, position, channel = tensor.stride()
        return tensor.as_strided(
            (batch, heads, self.groups, self.count, width),
            (row, head, self.jump * position, self.step * position, channel),
            tensor.storage_offset() + self.start * position,
        )


@dataclass(frozen=True)
class Tile:
    """Groups of queries and the keys that each group may see.

    Attributes:
        query: positions of the queries; each is in one group only.
        key: positions of the keys: a grid with as many groups, or an index (groups or 1, M), or one that
            differs by head, (heads, groups or 1, M); -1 = no key.
        same: every group stands to its keys as the first does, so one mask by distance serves all.
    """

    query: Grid
    key: Grid | Tensor
    same: bool = False

    @property
    def keys(self) -> int:
        """How many keys a group sees."""
        return self.key.count if isinstance(self.key, Grid) else self.key.shape[-1]

    @property
    def area(self) -> int:
        """How many scores one head computes."""
        return self.query.groups * self.query.count * self.keys

    def key_positions(self, device: torch.device) -> Tensor:
        """(groups, M), with the heads before where they differ."""
        return self.key.positions(device) if isinstance(self.key, Grid) else self.key

    def to(self, device: torch.device) -> Tile:
        """With its index, if any, on a device."""
        return self if isinstance(self.key, Grid) else replace(self, key=self.key.to(device))

    def part(self, first: int, groups: int) -> Tile:
        """Only some groups."""
        key = self.key
        if isinstance(key, Grid):
            key = key.part(first, groups)
        elif key.shape[-2] > 1:
            key = key[..., first : first + groups, :]
        return replace(self, query=self.query.part(first, groups), key=key)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Base of pieces.

    Attributes:
        heads: (first, step): it holds for the heads first, first + step, ...
    """

    heads: tuple[int, int] = (0, 1)

    #: Whether each query is in one tile only.
    once = True
    #: Whether the tiles hold just the pairs that the predicate allows, but for causality.
    exact = True
    #: Whether no earlier piece of its patterns shows any of its keys.
    apart = False
    #: Whether the predicate depends on the distance of query and key alone.
    relative = False
    #: What a score in its tiles costs, in scores of a band: keys that are gathered one by one come dearer.
    price = 1.0

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may see a key by this piece: broadcastable position tensors -> bool tensor."""
        first, step = self.heads
        allowed = self.sees(head, query, key)
        return allowed if step == 1 else allowed & (head % step == first)

    def overlaps(self, other: Piece) -> bool:
        """Whether both hold for a head."""
        (first, step), (second, other_step) = self.heads, other.heads
        return step != other_step or first == second

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """The predicate, for heads of the piece."""
        raise NotImplementedError

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        """Tiles that hold every pair the predicate allows in a sequence of that length (causal: key <= query)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Band(Piece):
    """Keys from ``before`` positions back to ``after`` positions ahead; with ``step``, only every step-th of them.

    With a step it is a plain band within each residue class of the positions.
    """

    before: int
    after: int
    step: int = 1

    relative = True
    exact = False

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = query - key
        allowed = (back <= self.before) & (back >= -self.after)
        return allowed if self.step == 1 else allowed & (back % self.step == 0)

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        short, longer = divmod(length, self.step)
        for first, classes, size in ((0, longer, short + 1), (longer, self.step - longer, short)):
            if classes and size:
                yield from self._class_tiles(first, classes, size, causal)

    def _class_tiles(self, first: int, classes: int, size: int, causal: bool) -> Iterator[Tile]:
        """Tiles of neighbouring residue classes, each of ``size`` positions."""
        before, after = self.before // self.step, 0 if causal else self.after // self.step
        rows = min(ROWS, size)
        inner: list[int] = []
        for start in range(0, size, rows):
            whole = before <= start and start + rows + after <= size
            if whole and classes == 1:
                inner.append(start)
                continue
            stop = min(start + rows, size)
            low, high = max(0, start - before), min(size, stop + after)
            query = Grid(first + start * self.step, stop - start, self.step, classes, 1)
            yield Tile(query, Grid(first + low * self.step, high - low, self.step, classes, 1), same=True)
        if inner:
            jump = rows * self.step
            query = Grid(first + inner[0] * self.step, rows, self.step, len(inner), jump)
            low = first + (inner[0] - before) * self.step
            yield Tile(query, Grid(low, before + rows + after, self.step, len(inner), jump), same=True)


@dataclass(frozen=True)
class Blocks(Piece):
    """Blocks of ``size`` positions side by side; a query sees its own, ``before`` blocks back and ``after`` ahead."""

    size: int
    before: int = 0
    after: int = 0

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = query // self.size - key // self.size
        return (back <= self.before) & (back >= -self.after)

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        after = 0 if causal else self.after
        inner = range(self.before, length // self.size - after)
        if inner:
            yield from self._tiles(inner.start, len(inner), self.size, (self.before + 1 + after) * self.size, causal)
        for block in range(-(-length // self.size)):
            if block not in inner:
                start, low = block * self.size, max(0, block - self.before) * self.size
                rows = min(self.size, length - start)
                yield from self._tiles(block, 1, rows, min(length, start + (1 + after) * self.size) - low, causal)

    def _tiles(self, block: int, groups: int, rows: int, keys: int, causal: bool) -> Iterator[Tile]:
        """Tiles of neighbouring blocks alike: so many rows, so many keys up to where the last block seen ends."""
        first, low = block * self.size, max(0, block - self.before) * self.size
        for start in range(0, rows, ROWS):
            stop = min(start + ROWS, rows)
            shown = first - low + stop if causal else keys
            query = Grid(first + start, stop - start, 1, groups, self.size)
            yield Tile(query, Grid(low, shown, 1, groups, self.size), same=True)


@dataclass(frozen=True)
class Columns(Piece):
    """Keys that every query sees: the last ``keep`` positions of each ``period``, or the first ``keep`` of all.

    Without a period they are the first positions.
    """

    keep: int
    period: int | None = None

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Broadcast against the query: the answer has the shape of the pairs.
        shown = key < self.keep if self.period is None else key % self.period >= self.period - self.keep
        return shown & (query >= 0)

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        if self.period is None:
            rows = max(ROWS, SPAN * ROWS // self.keep)
            for start in range(0, length, rows):
                stop = min(start + rows, length)
                yield Tile(Grid(start, stop - start), Grid(0, min(self.keep, stop if causal else length)))
            return
        positions = torch.arange(length)
        positions = positions[positions % self.period >= self.period - self.keep]
        rows = 2 * ROWS
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            # A slice, not an index: all tiles share one tensor.
            shown = positions[: int(torch.searchsorted(positions, stop))] if causal else positions
            if len(shown):
                yield Tile(Grid(start, stop - start), shown.unsqueeze(0))


@dataclass(frozen=True)
class Rows(Piece):
    """The first ``count`` queries, which see every key."""

    count: int

    once = False

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query < self.count) & (key >= 0)

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        count = min(self.count, length)
        for start in range(0, count, 2 * ROWS):
            stop = min(start + 2 * ROWS, count)
            end = stop if causal else length
            for low in range(0, end, SPAN):
                yield Tile(Grid(start, stop - start), Grid(low, min(SPAN, end - low)))


@dataclass(frozen=True)
class Diagonals(Piece):
    """Single keys at distances of powers of two: 1, 2, 4, 8, ... back, and as many ahead."""

    relative = True

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = (query - key).abs()
        # A power of two has one bit.
        return (back > 0) & (back & (back - 1) == 0)

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        powers = [1 << bit for bit in range((length - 1).bit_length())]
        if not powers:
            return
        offsets = torch.tensor(powers if causal else [*powers, *(-power for power in powers)])
        key = torch.arange(length).unsqueeze(1) - offsets
        yield Tile(Grid(0, 1, 1, length, 1), key.masked_fill((key < 0) | (key >= length), -1))


@dataclass(frozen=True)
class Table(Piece):
    """Blocks of keys picked for each block of queries, by head; derive and say which in ``blocks``."""

    size: int

    def blocks(self, count: int) -> Tensor:
        """The key blocks of ``count`` query blocks: (heads, count, picks), each once a row, -1 = none."""
        raise NotImplementedError

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        count = -(-length // self.size)
        blocks = self.blocks(count)
        if not blocks.shape[-1]:
            return
        key = blocks.unsqueeze(-1) * self.size + torch.arange(self.size)
        key = key.masked_fill((blocks < 0).unsqueeze(-1) | (key >= length), -1).flatten(-2)
        whole, rest = divmod(length, self.size)
        if whole:
            yield Tile(Grid(0, self.size, 1, whole, self.size), key[:, :whole])
        if rest:
            yield Tile(Grid(whole * self.size, rest), key[:, whole:])


@dataclass(frozen=True)
class Cells(Piece):
    """Cells of an image, row by row from position ``start``: a query sees the ``size`` x ``size`` nearest.

    The window is centred on the query and shifted where it would reach over the border; a side shorter than the
    window is seen whole.
    """

    start: int
    height: int
    width: int
    size: int

    exact = False
    # Neither what stands before the cells nor what follows them is seen.
    apart = True
    # On CPU, windows of 7: half as fast as a dense kernel on 16x16 cells, twice as fast on 32x32.
    price = 2.2

    def sees(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        query, key = query - self.start, key - self.start
        count = self.height * self.width
        cells = (query >= 0) & (query < count) & (key >= 0) & (key < count)
        return (
            cells
            & _within(query // self.width, key // self.width, self.size, self.height)
            & _within(query % self.width, key % self.width, self.size, self.width)
        )

    def tiles(self, length: int, causal: bool) -> Iterator[Tile]:
        """The same columns of all rows share a tile: neighbours in a row see much the same keys."""
        # Twice the window: fewer gather each key more often, more mask what only some of them see. Measured on CPU,
        # forward + backward, for windows of 3 and 7 on 16x16 to 56x56 cells: about the fastest.
        columns = max(2 * self.size, 8)
        for first in range(0, self.width, columns):
            count = min(columns, self.width - first)
            # Rows with all of these columns, then, in a sequence that ends early, one with some of them.
            left = length - self.start - first
            whole = min(self.height, max(0, (left - count) // self.width + 1))
            if whole:
                yield self._tile(first, count, range(whole), length)
            rest = min(count, left - whole * self.width)
            if whole < self.height and rest > 0:
                yield self._tile(first, rest, range(whole, whole + 1), length)

    def _tile(self, first: int, count: int, rows: range, length: int) -> Tile:
        """The queries of so many columns, and the keys that any of them sees, in each of the rows."""
        row, side = torch.arange(rows.start, rows.stop), torch.arange(self.size)
        seen_rows = _first(row, self.size, self.height).unsqueeze(1) + side[: self.height]
        low, high = _first(torch.tensor([first, first + count - 1]), self.size, self.width).tolist()
        seen_columns = torch.arange(low, min(high + self.size, self.width))
        key = self.start + (seen_rows.unsqueeze(2) * self.width + seen_columns).flatten(1)
        query = Grid(self.start + rows.start * self.width + first, count, 1, len(rows), self.width)
        return Tile(query, key.masked_fill(key >= length, -1))


def _first(at: Tensor, size: int, count: int) -> Tensor:
    """Where the window of a cell starts along a side of ``count`` cells."""
    return (at - size // 2).clamp(min=0, max=max(count - size, 0))


def _within(query: Tensor, key: Tensor, size: int, count: int) -> Tensor:
    """Whether a key is in the query's window along a side of ``count`` cells."""
    back = key - _first(query, size, count)
    return (back >= 0) & (back < size)
