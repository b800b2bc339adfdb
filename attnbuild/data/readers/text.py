"""Parallel text files: line n of one file translates line n of the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from attnbuild.data.cache import content_hash
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Row
from attnbuild.data.readers.files import Root, hash_file, read_lines
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.errors import DataError
from attnbuild.registry import register

__all__ = ["TextReader"]


@register("data", "text")
class TextReader(SplitReader):
    """Parallel text files, one sentence a line, UTF-8, gzipped or not.

    The file of a split and a language is ``STEM.LANGUAGE``, such as ``train.en`` and ``train.de``.

    Args:
        place: what the builder knows.
        source: language to translate from: the ending of its files.
        target: language to translate into: the ending of its files.
        root: folder of the files; null means $ATTNBUILD_DATA, then the working directory.
        train: file name of the training data, without the language; null means there is none.
        validation: the same of the validation data; a number or a share below 1 holds so much of train out.
        test: the same of the test data; a number or a share below 1 holds so much of train out.
    """

    def __init__(
        self,
        place: DataPlace,
        *,
        source: str = "en",
        target: str = "de",
        root: str | None = None,
        train: str | None = "train",
        validation: HeldOut = "validation",
        test: HeldOut = "test",
    ) -> None:
        super().__init__(f"text {source}-{target}", train, validation, test)
        self._languages = (source, target)
        self._root = Root.choose(root)

    def stored_rows(self, split: str) -> Iterator[Row]:
        source, target = self.stored_files(split)
        pairs = zip_longest(read_lines(source), read_lines(target))
        for number, (source_line, target_line) in enumerate(pairs, start=1):
            if source_line is None or target_line is None:
                longer, shorter = (target, source) if source_line is None else (source, target)
                total = number + sum(1 for _ in pairs)
                raise DataError(
                    f"{longer}:{number}: has no partner: {longer.name} has {total} lines, "
                    f"{shorter.name} has {number - 1}; parallel files need equal line counts"
                )
            yield source_line, target_line

    def stored_fingerprint(self, split: str) -> str:
        return content_hash("text", *map(hash_file, self.stored_files(split)))

    def stored_files(self, split: str) -> tuple[Path, Path]:
        source, target = (
            self._root.find(f"{self.stored[split]}.{language}", f"data.{split}") for language in self._languages
        )
        return source, target
