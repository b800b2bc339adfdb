"""COCO captions (Chen et al. 2015), in the original form of the annotations and in Karpathy's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from attnbuild.data.pictures import Picture
from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Modality, Row
from attnbuild.data.readers.files import Root, find_picture, read_lines
from attnbuild.data.readers.formats import read_json
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.errors import DataError
from attnbuild.printable import in_one_line
from attnbuild.registry import register

__all__ = ["CocoReader"]

#: Splits that messages name.
_SHOWN = 20


@register("data", "coco")
class CocoReader(SplitReader):
    """Pictures with several captions each, described in JSON as COCO does (Chen et al. 2015).

    An annotation file holds ``images`` (``id``, ``file_name``) and ``annotations`` (``image_id``, ``caption``).
    The form that Karpathy and Fei-Fei (2015) gave COCO and Flickr is read too: one file for all splits, with
    ``images`` of ``filename``, ``split`` and ``sentences`` (``raw``).

    Args:
        place: what the builder knows.
        path: folder of the data set, absolute or under the root.
        karpathy: file of all splits in Karpathy's form, such as dataset_coco.json; null reads a file for each.
        images: folders of the pictures under the path, tried in turn.
        root: folder that a relative path is looked for in first; null means $ATTNBUILD_DATA.
        train: annotation file for training; with karpathy, its splits joined by +, such as train+restval.
        validation: the same for validation; a number or a share below 1 holds so much of train out; null: none.
        test: the same for testing; a number or a share below 1 holds so much of train out; null: none.
    """

    source: ClassVar[Modality] = "image"
    targets: ClassVar[tuple[str, ...]] = ("captions",)

    def __init__(
        self,
        place: DataPlace,
        *,
        path: str = "coco",
        karpathy: str | None = None,
        images: list[str] = ["train2017", "val2017", "images"],  # noqa: B006 never changed; the schema of the option
        root: str | None = None,
        train: str | None = "annotations/captions_train2017.json",
        validation: HeldOut = 5000,
        test: HeldOut = "annotations/captions_val2017.json",
    ) -> None:
        super().__init__(f"coco {path}", train, validation, test)
        self._path = path
        self._karpathy = karpathy
        self._images = tuple(images)
        self._root = Root.choose(root)

    def stored_rows(self, split: str) -> Iterator[Row]:
        folder = self._root.find_folder(self._path, "data.path")
        folders = [*(folder / name for name in self._images), folder]
        (path,) = self.stored_files(split)
        items = _original(path) if self._karpathy is None else _karpathy(path, self.stored[split].split("+"))
        for name, where, captions in items:
            yield Picture(find_picture(name, where, folders), in_one_line(f"{where}: {name}")), captions

    def stored_files(self, split: str) -> tuple[Path, ...]:
        folder = Root(self._root.find_folder(self._path, "data.path"), "data.path")
        if self._karpathy is not None:
            return (folder.find(self._karpathy, "data.karpathy"),)
        return (folder.find(self.stored[split], f"data.{split}"),)


#: Picture file name, file and place, captions.
Item = tuple[str, str, list[str]]


def _original(path: Path) -> Iterator[Item]:
    document = _load(path)
    captions: dict[int | str, list[str]] = {
        _id(image, "id", where): [] for image, where in _entries(document, "images", path)
    }
    for annotation, where in _entries(document, "annotations", path):
        number = _id(annotation, "image_id", where)
        if number not in captions:
            raise DataError(f"{where}: there is no image {number!r:.60}")
        captions[number].append(_text(annotation, "caption", where))
    for image, where in _entries(document, "images", path):
        yield _text(image, "file_name", where), where, captions[image["id"]]


def _karpathy(path: Path, splits: list[str]) -> Iterator[Item]:
    known = set()
    for image, where in _entries(_load(path), "images", path):
        split = _text(image, "split", where)
        known.add(split)
        if split in splits:
            folder = _text(image, "filepath", where) if "filepath" in image else ""
            name = Path(folder, _text(image, "filename", where))
            sentences = _list(image, "sentences", where)
            yield str(name), where, [_text(sentence, "raw", where) for sentence in sentences]
    missing = sorted(set(splits) - known)
    if missing:
        raise DataError(f"{path}: has no split {' or '.join(missing)}, only {', '.join(sorted(known)[:_SHOWN])}")


def _load(path: Path) -> Any:
    return read_json("\n".join(read_lines(path)), str(path))


def _entries(document: Any, key: str, path: Path) -> Iterator[tuple[Any, str]]:
    """The members of a list in the document, each with where it stands."""
    for number, entry in enumerate(_list(document, key, str(path))):
        yield entry, f"{path}: {key}[{number}]"


def _list(entry: Any, key: str, where: str) -> list[Any]:
    value = _at(entry, key, where)
    if not isinstance(value, list):
        raise DataError(f"{where}: {key!r} is no list")
    return value


def _id(entry: Any, key: str, where: str) -> int | str:
    value = _at(entry, key, where)
    if not isinstance(value, int | str):
        raise DataError(f"{where}: {key!r} is neither a number nor a name: {value!r:.60}")
    return value


def _text(entry: Any, key: str, where: str) -> str:
    value = _at(entry, key, where)
    if isinstance(value, list | dict) or value is None:
        raise DataError(f"{where}: {key!r} is no text: {value!r:.60}")
    return str(value)


def _at(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{where}: has no {key!r}; data.karpathy says in which form the file is")
    return entry[key]
