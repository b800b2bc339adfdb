"""Data sets that the ``datasets`` library can load, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnbuild.data.place import DataPlace
from attnbuild.data.readers.base import SPLITS, Reader
from attnbuild.data.readers.columns import missing_column, text_at
from attnbuild.data.readers.files import Root
from attnbuild.errors import DataError
from attnbuild.registry import register

__all__ = ["HuggingFaceReader"]


@register("data", "hf")
class HuggingFaceReader(Reader):
    """Any data set of the ``datasets`` library: a folder, or a name on the Hugging Face hub.

    A folder written by ``save_to_disk`` is read as it is; any other is given to ``load_dataset``.

    Args:
        place: what the builder knows.
        path: folder, absolute or under the root, or name on the hub.
        name: configuration of the data set, where it has several, such as de-en.
        source: column to translate from; translation.en names a nested column.
        target: column to translate into.
        root: folder that a relative path is looked for in first; null means $ATTNBUILD_DATA.
        train: its split for training, such as train or train[:90%]; null means there is none.
        validation: its split for validation; null means there is none.
        test: its split for testing; null means there is none.
    """

    def __init__(
        self,
        place: DataPlace,
        *,
        path: str,
        name: str | None = None,
        source: str = "en",
        target: str = "de",
        root: str | None = None,
        train: str | None = "train",
        validation: str | None = "validation",
        test: str | None = "test",
    ) -> None:
        super().__init__(f"hf {path}{f' ({name})' if name else ''}")
        self._path = path
        self._config = name
        self._columns = (source, target)
        self._root = Root.choose(root)
        self._splits = dict(zip(SPLITS, (train, validation, test), strict=True))
        self._loaded: dict[str, Any] = {}

    def splits(self) -> tuple[str, ...]:
        return tuple(split for split, name in self._splits.items() if name is not None)

    def rows(self, split: str) -> Iterator[tuple[str | None, str | None]]:
        dataset = self._dataset(split)
        source, target = self._columns
        for number, row in enumerate(dataset, start=1):
            where = f"{self.name}, {self._splits[split]} row {number}"
            yield text_at(row, source, where), text_at(row, target, where)

    def _dataset(self, split: str) -> Any:
        """The data set of a split with only the columns that are needed."""
        if split not in self._loaded:
            dataset = self._load(str(self._splits[split]))
            known = dataset.column_names
            roots = [column if column in known else column.split(".")[0] for column in self._columns]
            for column, root in zip(self._columns, roots, strict=True):
                if root not in known:
                    raise missing_column(column, known, f"{self.name}, {self._splits[split]}")
            self._loaded[split] = dataset.select_columns(sorted(set(roots)))
        return self._loaded[split]

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
