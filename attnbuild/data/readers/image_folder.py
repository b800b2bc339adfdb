"""Pictures in a folder for each label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from attnbuild.data.pictures import SUFFIXES, Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Modality, Row
from attnbuild.data.readers.files import Root
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.errors import DataError, did_you_mean
from attnbuild.printable import in_one_line
from attnbuild.registry import register

__all__ = ["ImageFolderReader"]


@register("data", "image_folder")
class ImageFolderReader(SplitReader):
    """Pictures labelled by the folder they lie in: ``PATH/train/cat/any/name.jpg``.

    Folders within that of a label belong to it. Files without the ending of a picture, and names that begin
    with a dot, are passed over.

    Args:
        place: what the builder knows.
        path: folder of the data set, absolute or under the root.
        root: folder that a relative path is looked for in first; null means $ATTNBUILD_DATA.
        train: its folder for training; . where the folders of the labels lie in the path itself.
        validation: its folder for validation; a number or a share below 1 holds so much of train out; null: none.
        test: its folder for testing; a number or a share below 1 holds so much of train out; null: none.
    """

    source: ClassVar[Modality] = "image"
    targets: ClassVar[tuple[str, ...]] = ("labels",)

    def __init__(
        self,
        place: DataPlace,
        *,
        path: str,
        root: str | None = None,
        train: str | None = "train",
        validation: HeldOut = "validation",
        test: HeldOut = "test",
    ) -> None:
        super().__init__(f"image_folder {path}", train, validation, test)
        self._path = path
        self._root = Root.choose(root)

    def stored_rows(self, split: str) -> Iterator[Row]:
        folder = self._folder(split)
        loose = next(
            (path for path in sorted(folder.iterdir()) if path.is_file() and _is_picture(Path(path.name))), None
        )
        if loose is not None:
            raise DataError(f"{loose}: lies in no folder of a label, as {folder}/LABEL/{loose.name} would")
        for label in _folders(folder):
            if in_one_line(label.name) != label.name:
                raise DataError(
                    f"{in_one_line(str(label))}: the folder's name is to be a label, and is no text: rename it"
                )
            for path in sorted(label.rglob("*")):
                if _is_picture(path.relative_to(label)) and path.is_file():
                    yield Picture(path, in_one_line(str(path))), label.name

    def stored_files(self, split: str) -> tuple[Path, ...]:
        return (self._folder(split),)

    def _folder(self, split: str) -> Path:
        whole = self._root.find_folder(self._path, "data.path")
        folder = whole / self.stored[split]
        if not folder.is_dir():
            names = [path.name for path in _folders(whole)]
            raise DataError(
                f"{whole}: has no folder {self.stored[split]!r} (from data.{split}); "
                f"{did_you_mean(self.stored[split], names, show=20)}"
            )
        return folder


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)
