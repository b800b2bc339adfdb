"""What a checkpoint file may be, looked at before torch reads it.

``torch.load(weights_only=True)`` runs nothing that a file holds, but it builds what the file asks for: a tensor of
any size, a buffer of a terabyte, entries that unpack to a thousand times the file. Here the pickle in the file is
read once into an outline, in which tensors are their sizes alone, by a reader that knows only the instructions and
the four or five names that ``torch.save`` writes for tensors and plain values. What passes takes no more memory than
the file is long, and is what was written: the sums of all entries are compared.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from attnbuild.plain import require_plain
from attnbuild.printable import in_one_line

__all__ = ["check_file"]

#: Plain values that a checkpoint may unfold to; those of a large model have some ten thousand.
_MOST_VALUES = 20_000_000

#: Of a tensor; torch itself knows no more.
_MOST_DIMENSIONS = 64

#: Storage types, with the bytes of an element.
_STORAGES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage"), 8),
}

#: What ``torch.save`` writes of plain values and tensors, by the names of pickle's instructions.
_INSTRUCTIONS = (
    *("PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND"),
    *("APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "BINPERSID"),
    *("GLOBAL", "REDUCE"),
)


class _Known(dict[int, Any]):
    """What is done at each instruction."""

    def __missing__(self, instruction: int) -> Any:
        raise pickle.UnpicklingError(f"it has the instruction {chr(instruction)!r}")


def check_file(path: Path) -> None:
    """Refuse a file that is more than plain values and tensors, or that would take more memory than its length.

    Raises:
        pickle.UnpicklingError: it names something else; nothing of it was run.
        ValueError: it is damaged, or claims to be larger than it is.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _sizes(archive, os.stat(path).st_size)
            damaged = archive.testzip()  # torch does not compare the sums of what it reads
            if damaged is not None:
                raise ValueError(f"{in_one_line(damaged, 80)} is not what was written")
            (pickled,) = (name for name in sizes if PurePosixPath(name).name == "data.pkl")
            prefix = pickled.removesuffix("data.pkl")
            outline = _Outline(archive.read(pickled), {name.removeprefix(prefix): sizes[name] for name in sizes})
            value = outline.load()
    except (pickle.UnpicklingError, OSError):
        raise
    except Exception as error:  # whatever a damaged file makes of the two readers, the file is at fault
        raise ValueError(in_one_line(str(error) or type(error).__name__, 200)) from error
    require_plain(value, most=_MOST_VALUES, leaves=(_Tensor,))


def _sizes(archive: zipfile.ZipFile, length: int) -> dict[str, int]:
    """The entries of the file and how long they are; together no longer than the file."""
    entries = archive.infolist()
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(sizes) != len(entries):
        raise ValueError("it has two entries of one name")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise ValueError("it is packed, and what torch writes is not")
    if sum(sizes.values()) > length:
        raise ValueError("its entries claim to be longer than the file")
    return sizes


class _Element(NamedTuple):
    """A storage type: the bytes of an element."""

    bytes: int


class _Storage(NamedTuple):
    """The numbers behind tensors: how many there are."""

    elements: int


class _Tensor:
    """A tensor of which nothing is known but that it lies within its storage."""

    __slots__ = ()


class _Rebuild:
    """Stands in for the function that makes tensors. Without attributes, so that no instruction can change it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> _Tensor:
        whole = [offset, *size, *stride]
        whole_numbers = all(type(number) is int and number >= 0 for number in whole)
        if type(storage) is not _Storage or not whole_numbers or not len(size) == len(stride) <= _MOST_DIMENSIONS:
            raise ValueError("a tensor has no shape")
        numbers, last = 1, offset
        for length, step in zip(size, stride, strict=True):
            numbers *= length
            last += (length - 1) * step
        if numbers and (numbers > storage.elements or last >= storage.elements):
            raise ValueError(f"a tensor of {numbers:,} numbers has {storage.elements:,} in the file")
        return _Tensor()


class _Outline(pickle._Unpickler):
    """Reads a pickle without making what it asks for.

    The reader is that of the standard library in Python, whose memory follows the length of the data; the one in C
    makes a table as long as the largest number that the data names.

    Args:
        data: the pickle.
        entries: entry of the archive -> its bytes.
    """

    dispatch = _Known(
        (getattr(pickle, name)[0], pickle._Unpickler.dispatch[getattr(pickle, name)[0]]) for name in _INSTRUCTIONS
    )

    def __init__(self, data: bytes, entries: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self.entries = entries

    def load_build(self) -> None:
        """Attributes of an object: torch notes versions of modules on its dicts, and nothing else is let in."""
        stack: list[Any] = getattr(self, "stack")  # noqa: B009 the type checker does not know it
        state = stack.pop()
        if type(stack[-1]) is not OrderedDict or not isinstance(state, dict) or list(state) != ["_metadata"]:
            raise pickle.UnpicklingError("it sets attributes")

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if module == "torch" and name in _STORAGES:
            return _Element(_STORAGES[name])
        raise pickle.UnpicklingError(f"it names {in_one_line(f'{module}.{name}', 80)}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, element, key, _, elements = pid
        if kind != "storage" or type(element) is not _Element or type(elements) is not int or elements < 0:
            raise ValueError("a storage has no length")
        stored = self.entries.get(f"data/{key}", 0)
        if elements * element.bytes > stored:
            raise ValueError(f"a storage of {elements * element.bytes:,} bytes has {stored:,} in the file")
        return _Storage(elements)
