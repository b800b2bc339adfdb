"""Arrays of arrays of different lengths, on disk and mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

__all__ = ["RaggedArray", "RaggedWriter"]


class RaggedArray:
    """Rows of one type, one after the other in one file, with the offset of each row in another.

    Both files are mapped, not read: a row costs a look-up, and the memory is the system's to reclaim.

    Args:
        stem: path of the two files without their endings.
        dtype: type of the values.
    """

    def __init__(self, stem: Path, dtype: type[np.generic]) -> None:
        self._offsets = _map(stem.with_suffix(".offsets"), np.int64)
        self._values = _map(stem.with_suffix(".values"), dtype)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        """Row number ``row``, shape (length,): a view, not to be written to."""
        return self._values[self._offsets[row] : self._offsets[row + 1]]

    def lengths(self) -> np.ndarray:
        """Length of every row, shape (rows,), int64."""
        return np.diff(self._offsets)


class RaggedWriter(AbstractContextManager["RaggedWriter"]):
    """Writes the files of a :class:`RaggedArray`, a few rows at a time."""

    def __init__(self, stem: Path, dtype: type[np.generic]) -> None:
        self._dtype = dtype
        self._end = 0
        self._offsets = stem.with_suffix(".offsets").open("wb")
        self._values = stem.with_suffix(".values").open("wb")
        self._offsets.write(np.zeros(1, np.int64).tobytes())

    def extend(self, rows: Sequence[np.ndarray]) -> None:
        """Append rows, each of shape (length,)."""
        ends = self._end + np.cumsum([len(row) for row in rows], dtype=np.int64)
        self._offsets.write(ends.tobytes())
        for row in rows:
            self._values.write(np.ascontiguousarray(row, self._dtype).data)
        self._end = int(ends[-1]) if len(rows) else self._end

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._offsets.close()
        self._values.close()


def _map(path: Path, dtype: type[np.generic]) -> np.ndarray:
    if path.stat().st_size == 0:  # which cannot be mapped
        return np.empty(0, dtype)
    # A plain view: indexing a np.memmap costs several times as much.
    return np.memmap(path, dtype, mode="r").view(np.ndarray)
