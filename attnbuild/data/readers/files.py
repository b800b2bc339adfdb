"""Finding data files and reading their lines."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import xxhash

from attnbuild.errors import DataError
from attnbuild.printable import in_one_line

__all__ = ["LONGEST_LINE", "ROOT_VARIABLE", "Root", "find_picture", "hash_file", "read_lines"]

ROOT_VARIABLE = "ATTNBUILD_DATA"

_BOM = b"\xef\xbb\xbf"

#: Bytes of a line, which is in memory as a whole; a gzipped file of a megabyte can hold a line of a gigabyte.
LONGEST_LINE = 64 << 20


#: Characters of a file name that messages show.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Root:
    """The folder that relative file names are looked for in, before the working directory.

    Attributes:
        folder: None where neither the option nor the environment gives one.
        origin: where it comes from, for messages.
    """

    folder: Path | None
    origin: str

    @classmethod
    def choose(cls, option: str | None) -> Root:
        """The option ``data.root``, else ``$ATTNBUILD_DATA``."""
        if option:
            return cls(Path(option).expanduser(), "data.root")
        variable = os.environ.get(ROOT_VARIABLE)
        if variable:
            return cls(Path(variable).expanduser(), f"${ROOT_VARIABLE}")
        return cls(None, "")

    def folders(self) -> tuple[Path, ...]:
        """The folders that relative names are looked for in, best first."""
        return (Path.cwd(),) if self.folder is None else (self.folder, Path.cwd())

    def candidates(self, name: str) -> list[tuple[Path, str]]:
        """The places where a name may be, best first, each with where it comes from."""
        path = Path(name).expanduser()
        if path.is_absolute():
            return [(path, "an absolute path")]
        here = [(Path.cwd() / path, "the working directory")]
        return here if self.folder is None else [(self.folder / path, self.origin), *here]

    def find(self, name: str, option: str) -> Path:
        """The file of this name, or its gzipped twin ``NAME.gz``.

        Args:
            name: file name, absolute or relative.
            option: the config path that gives the name, for the message.

        Raises:
            DataError: no such file; the message lists what was tried.
        """
        tried = self.candidates(name)
        for path, _ in tried:
            for candidate in (path, path.with_name(path.name + ".gz")):
                if _is_file(candidate):
                    return candidate
        places = " and ".join(f"{path} (from {origin})" for path, origin in tried)
        advice = "" if self.folder else f"; neither data.root nor ${ROOT_VARIABLE} is set"
        raise DataError(f"no file {name!r} (from {option}): tried {places}{advice}")

    def find_folder(self, name: str, option: str) -> Path:
        """The folder of this name.

        Args:
            name: folder name, absolute or relative.
            option: the config path that gives the name, for the message.

        Raises:
            DataError: no such folder; the message lists what was tried.
        """
        tried = self.candidates(name)
        for path, _ in tried:
            if path.is_dir():
                return path
        places = " and ".join(f"{path} (from {origin})" for path, origin in tried)
        raise DataError(f"no folder {name!r} (from {option}): tried {places}")


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, gzipped or not, without line ends and byte order mark, one at a time.

    Only a line feed ends a line, as for ``wc -l``: other separators that Unicode knows are text.

    Raises:
        DataError: the file cannot be opened, is damaged, or a line is not UTF-8 or longer than ``LONGEST_LINE``.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{path}:{number}: the line is longer than {LONGEST_LINE >> 20} MB")
                if number == 1:
                    line = line.removeprefix(_BOM)
                yield _decode(line.removesuffix(b"\n").removesuffix(b"\r"), path, number)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {number}: {error}") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}; "
            "convert the file to UTF-8, for example with iconv"
        ) from error


def find_picture(name: str, where: str, folders: Sequence[Path]) -> Path:
    """The picture file of this name in the first of some folders that has it.

    Args:
        name: file name, absolute or relative.
        where: file and row that give the name, for the message.
        folders: where relative names may be, best first.

    Raises:
        DataError: no folder has it; the message lists what was tried.
    """
    tried = list(dict.fromkeys(folder / name for folder in folders))  # an absolute name stays what it is
    for path in tried:
        if _is_file(path):
            return path
    places = " and ".join(in_one_line(str(path), _LONGEST_NAME) for path in tried)
    raise DataError(f"{where}: no picture file {in_one_line(name, _LONGEST_NAME)!r}: tried {places}")


def _is_file(path: Path) -> bool:
    """Whether there is such a file; of a name that no file can have, a page of text for one, there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def hash_file(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    state = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return state.hexdigest()
