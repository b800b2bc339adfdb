"""The near cells of an image."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.patterns.base import Pattern
from attnbuild.attention.patterns.pieces import Cells, Columns, Piece, Rows
from attnbuild.attention.place import HeadPlace
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["Neighborhood"]


@register("pattern", "neighborhood")
class Neighborhood(Pattern):
    """Each cell sees the k x k cells nearest to it (Hassani et al. 2023, "Neighborhood attention Transformer", 3.1).

    Along a side of n cells, the cell at i sees those from min(max(i - floor(k / 2), 0), n - k) on: at a border the
    window is shifted, not cut, so that every cell sees as many. A side shorter than k is seen whole. Positions
    before the first cell (a class token) see all and are seen by all.

    Args:
        neighborhood: k, height and width of what a cell sees; odd.
    """

    capabilities = Capabilities(
        cross_attention=False,
        causal=False,
        sequence=False,
        reasons={
            "cross_attention": "its neighbours are cells of the image that the query is a cell of",
            "causal": "near cells lie on all sides, and none of them is earlier",
            "sequence": "it needs the cells of an image (encoder=vit), and a sequence has neither rows nor columns",
        },
    )
    sparse = True

    def __init__(self, place: HeadPlace, *, neighborhood: Annotated[int, Ge(1)] = 7) -> None:
        super().__init__(place)
        path = f"{place.name}.neighborhood"
        if neighborhood % 2 == 0:
            near = f"{neighborhood - 1} or {neighborhood + 1}"
            raise ConfigError(
                f"{neighborhood} is even: a cell stands in the middle of what it sees, choose {near}", path
            )
        if place.grid is None:
            raise ConfigError("the rows and columns of its cells are not known here: say grid=(height, width)", path)
        self.neighborhood, self.extra = neighborhood, place.extra
        self.cells = Cells(place.extra, *place.grid, neighborhood)

    def extra_repr(self) -> str:
        return f"neighborhood={self.neighborhood}, grid=({self.cells.height}, {self.cells.width})"

    def mask_mod(self, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = self.cells.sees(head, query, key)
        return near | (query < self.extra) | (key < self.extra) if self.extra else near

    def pieces(self) -> tuple[Piece, ...]:
        return (Columns(self.extra), Rows(self.extra), self.cells) if self.extra else (self.cells,)
