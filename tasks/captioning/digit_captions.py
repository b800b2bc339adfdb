"""What can truly be said of digits that stand in different cells of a 3 x 3 grid."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Placed", "captions"]

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: (row, column) of the grid, from the top left.
_PLACES = {
    (0, 0): "in the top left corner",
    (0, 1): "at the top",
    (0, 2): "in the top right corner",
    (1, 0): "on the left",
    (1, 1): "in the middle",
    (1, 2): "on the right",
    (2, 0): "in the bottom left corner",
    (2, 1): "at the bottom",
    (2, 2): "in the bottom right corner",
}


@dataclass(frozen=True)
class Placed:
    """A digit in a cell of the grid.

    Attributes:
        digit: 0 to 9.
        row: 0 (top) to 2.
        column: 0 (left) to 2.
    """

    digit: int
    row: int
    column: int

    def __str__(self) -> str:
        return f"{'an' if self.digit == 8 else 'a'} {_NAMES[self.digit]}"

    @property
    def place(self) -> str:
        """The digit and where it is: ``a seven at the top``."""
        return f"{self} {_PLACES[self.row, self.column]}"

    def beside(self, other: Placed) -> str:
        """Where it is, seen from another: ``above``, ``below and to the left of``."""
        words = []
        if self.row != other.row:
            words.append("above" if self.row < other.row else "below")
        if self.column != other.column:
            words.append("to the left of" if self.column < other.column else "to the right of")
        return " and ".join(words)


def captions(digits: list[Placed]) -> list[str]:
    """Five true captions of one to three digits, each worded differently.

    Args:
        digits: of different values, in different cells, from the top left to the bottom right.
    """
    match digits:
        case [a]:
            where = _PLACES[a.row, a.column]
            return [
                a.place,
                f"there is {a.place}",
                f"{where} there is {a}",
                f"nothing but {a.place}",
                f"a single digit , {a} , {where}",
            ]
        case [a, b]:
            return [
                f"{a} {a.beside(b)} {b}",
                f"there is {b} {b.beside(a)} {a}",
                f"{a.place} and {b.place}",
                f"two digits , {b.place} and {a.place}",
                f"there is {a} with {b} {b.beside(a)} it",
            ]
        case [a, b, c]:
            return [
                f"{a} {a.beside(b)} {b} , which is {b.beside(c)} {c}",
                f"there is {c} {c.beside(b)} {b} and {c.beside(a)} {a}",
                f"{a.place} , {b.place} and {c.place}",
                f"three digits , {c.place} , {b.place} and {a.place}",
                f"there is {a} with {b} {b.beside(a)} it and {c} {c.beside(a)} it",
            ]
    raise ValueError(f"captions are of one to three digits, not {len(digits)}")
