"""Multi30k, task 1: English and German image descriptions (Elliott et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Reader, Row
from attnbuild.data.readers.files import Root
from attnbuild.data.readers.hf import HuggingFaceReader
from attnbuild.data.readers.text import TextReader
from attnbuild.registry import register

__all__ = ["Multi30kReader"]

FOLDER = "multi30k"
HUB = "bentrevett/multi30k"


@register("data", "multi30k")
class Multi30kReader(Reader):
    """Multi30k with test_2016_flickr: 29,000 / 1,014 / 1,000 pairs (Elliott et al. 2016).

    Read from the folder ``multi30k`` under the root where there is one (raw text, ``train.en``, ``val.en``,
    ``test_2016_flickr.en``, ...), else from the hub.

    Args:
        place: what the builder knows.
        source: language to translate from.
        target: language to translate into.
        root: folder that holds ``multi30k``; null means $ATTNBUILD_DATA.
    """

    def __init__(
        self,
        place: DataPlace,
        *,
        source: Literal["en", "de"] = "en",
        target: Literal["en", "de"] = "de",
        root: str | None = None,
    ) -> None:
        super().__init__(f"multi30k {source}-{target}")
        folders = [path for path, _ in Root.choose(root).candidates(FOLDER) if path.is_dir()]
        self._reader: Reader = (
            TextReader(
                place,
                source=source,
                target=target,
                root=str(folders[0]),
                validation="val",
                test="test_2016_flickr",
            )
            if folders
            else HuggingFaceReader(place, path=HUB, source=source, target=target)
        )

    def splits(self) -> tuple[str, ...]:
        return self._reader.splits()

    def rows(self, split: str) -> Iterator[Row]:
        return self._reader.rows(split)

    def fingerprint(self, split: str) -> str:
        return self._reader.fingerprint(split)
