"""Data sets that the ``datasets`` library can load, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import Modality, Row
from attnbuild.data.readers.columns import Columns
from attnbuild.data.readers.files import Root, find_picture
from attnbuild.data.readers.split import HeldOut, SplitReader
from attnbuild.errors import DataError
from attnbuild.registry import register

__all__ = ["HuggingFaceReader"]


@register("data", "hf")
class HuggingFaceReader(SplitReader):
    """Any data set of the ``datasets`` library: a folder, or a name on the Hugging Face hub.

    A folder written by ``save_to_disk`` is read as it is; any other is given to ``load_dataset``.

    Args:
        place: what the builder knows.
        path: folder, absolute or under the root, or name on the hub.
        name: configuration of the data set, where it has several, such as de-en.
        source: column that is read: a text or, with pictures, an image; translation.en names a nested column.
        target: column that is to be said: a text, or a label as text, number or true and false; or a list of them.
        pair: column of a second text that is read beside the first; null means there is none.
        pictures: whether the source column holds pictures; file names are relative to the folder or the root.
        root: folder that a relative path is looked for in first; null means $ATTNBUILD_DATA.
        train: its split for training, such as train or train[:90%]; null means there is none.
        validation: its split for validation; a number or a share below 1 holds so much of train out.
        test: its split for testing; a number or a share below 1 holds so much of train out.
    """

    targets: ClassVar[tuple[str, ...]] = ("text", "captions", "labels")
    by_option: ClassVar[Mapping[Modality, str]] = {"image": "data.pictures=true"}

    def __init__(
        self,
        place: DataPlace,
        *,
        path: str,
        name: str | None = None,
        source: str = "en",
        target: str = "de",
        pair: str | None = None,
        pictures: bool = False,
        root: str | None = None,
        train: str | None = "train",
        validation: HeldOut = "validation",
        test: HeldOut = "test",
    ) -> None:
        super().__init__(f"hf {path}{f' ({name})' if name else ''}", train, validation, test)
        self._path = path
        self._config = name
        self._columns = Columns(source, target, pair, pictures)
        self._root = Root.choose(root)
        self._loaded: dict[str, Any] = {}

    @classmethod
    def source_modality(cls, options: Mapping[str, Any]) -> Modality:
        return "image" if options.get("pictures") else "text"

    def stored_rows(self, split: str) -> Iterator[Row]:
        dataset = self._dataset(split)
        names = self._columns.target.label_names(dataset.features.to_dict())
        folder = self._folder()
        find = partial(find_picture, folders=(*([folder] if folder else []), *self._root.folders()))
        for number, cells in enumerate(dataset, start=1):
            yield self._columns.row(cells, f"{self._where(split)} row {number}", find, names)

    def _dataset(self, split: str) -> Any:
        """The data set of a split with only the columns that are needed, its images as they are stored."""
        if split not in self._loaded:
            import datasets

            dataset = self._load(self.stored[split])
            known = dataset.column_names
            dataset = dataset.select_columns(
                sorted({column.stored_in(known, self._where(split)) for column in self._columns})
            )
            for name, feature in dataset.features.items():
                if isinstance(feature, datasets.Image):
                    # Decoded by us, a damaged one is named.
                    dataset = dataset.cast_column(name, datasets.Image(decode=False))
            self._loaded[split] = dataset
        return self._loaded[split]

    def _where(self, split: str) -> str:
        return f"{self.name}, {self.stored[split]}"

    def _load(self, split: str) -> Any:
        import datasets

        folder = self._folder()
        try:
            if folder is not None and _is_saved(folder):
                return _pick(datasets.load_from_disk(str(folder)), split)
            return datasets.load_dataset(str(folder or self._path), self._config, split=split)
        except Exception as error:  # loaders raise whatever they like; the user needs the cause and a way on
            raise DataError(self._explain(split, error)) from error

    def _folder(self) -> Path | None:
        return next((path for path, _ in self._root.candidates(self._path) if path.is_dir()), None)

    def _explain(self, split: str, error: Exception) -> str:
        cause = f"{self.name}: cannot load split {split!r}: {type(error).__name__}: {error}"
        if isinstance(error, OSError) and self._folder() is None:
            tried = ", ".join(str(path) for path, _ in self._root.candidates(self._path))
            return (
                f"{cause}\nThere is no folder of this name either (tried {tried}). Without a network: load "
                "the data set where there is one, `save_to_disk` it, and give that folder as data.path"
            )
        return cause


def _is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _pick(saved: Any, split: str) -> Any:
    """A split of what ``load_from_disk`` gave: several, or one data set saved alone."""
    splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    if split not in splits:
        raise ValueError(f"the folder has only: {', '.join(splits)}; name one, or null for a split that there is not")
    return splits[split]
