"""Using a trained model: ``predict_run`` reads lines or images, and writes outputs in their order."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import torch

from attnbuild.data.pictures import SUFFIXES, Picture
from attnbuild.data.readers.columns import Columns
from attnbuild.data.readers.files import LONGEST_LINE, Root, find_picture
from attnbuild.data.readers.formats import read_table
from attnbuild.errors import DataError
from attnbuild.linear import packed
from attnbuild.printable import in_one_line, printable
from attnbuild.training.changes import changed
from attnbuild.training.checkpoint import Loaded, load
from attnbuild.training.out_of_memory import out_of_memory_told
from attnbuild.training.run import atomic_writer
from attnbuild.training.task import Prediction, Task

__all__ = ["predict_run"]

#: Endings of tables: a column of theirs is predicted from.
_TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")

#: Endings of other files whose lines are not texts to predict from.
_NO_LINES = (".json", *SUFFIXES)

#: Inputs drawn together by ``explain``.
_DRAWN_TOGETHER = 32


def predict_run(run: Path, input: str, output: str, changes: dict[str, Any], explain: Path | None = None) -> int:
    """Predict every line of a file, or every image of a folder, with the chosen checkpoint of a run.

    Lines are read as they are needed, so the input may be longer than memory, or a pipe.

    Args:
        run: a run folder or a ``.ckpt`` file.
        input: a file of lines, or "-" for standard input; for a model that reads images, an image or a folder; for
            either a table (csv, tsv, jsonl, parquet), read by the columns that data.source and data.pair name.
        output: a file, written whole at the end, or "-" for standard output. A name that ends in ``.jsonl``
            gets an object a line, with scores and all outputs or the probability of every label; one in ``.csv`` or
            ``.tsv`` a table with the scores and these probabilities.
        changes: sections of the config to do otherwise.
        explain: folder for pictures of what the model attended to, one an input; None draws none.

    Returns:
        How many predictions were written.

    Raises:
        DataError: the input cannot be read, or the output cannot be written; or some of the images cannot be
            read, of which the others are predicted first.
    """
    loaded = changed(load(run, changes.get("plugins")), changes)
    task, search = loaded.task, loaded.task.search(loaded.config["search"])
    model = loaded.model.to(_device(loaded.config["trainer"]["accelerator"]))
    inputs = _inputs(task, input, loaded.config.get("data", {}))
    inputs = inputs if explain is None else list(inputs)
    count = 0
    memory = out_of_memory_told(lambda: _to_lower(loaded.config))
    with memory, _writer(output) as file, torch.inference_mode(), packed(model):
        write = _FORMATS.get(Path(output).suffix, _Lines)(file, task.labels)
        for prediction in task.predict(model, inputs, search):
            write(prediction)
            if output == "-":
                file.flush()
            count += 1
    unread, task.unread = task.unread, []
    if explain is not None:
        _explain(loaded, model, list(inputs), explain, readable=count - len(unread))
    if unread:
        told = "\n".join(unread)
        raise DataError(f"{len(unread)} of {count} images could not be read, and have an empty prediction:\n{told}")
    return count


def _to_lower(config: dict[str, Any]) -> str:
    """What takes the memory of predictions."""
    values = {f"batch.{name}": config.get("batch", {}).get(name) for name in ("eval_tokens", "eval_rows")}
    values["search.beam"] = config["search"].get("beam")
    settings = [f"{name} (now {value})" for name, value in values.items() if value is not None]
    return f"while predicting; lower {' or '.join(settings)}"


def _explain(loaded: Loaded, model: torch.nn.Module, inputs: list[Any], folder: Path, readable: int) -> None:
    """Draw all inputs, some at a time; files are named by the inputs' numbers."""
    search = loaded.task.search(loaded.config["search"])
    files = []
    with torch.inference_mode():
        for start in range(0, len(inputs), _DRAWN_TOGETHER):
            part = dict(enumerate(inputs[start : start + _DRAWN_TOGETHER], start))
            files += loaded.task.explain(model, part, search, folder)
    if not files and readable:
        raise DataError(
            "there is nothing to draw: this model's attention has no weights, or its decoder pools without attention"
        )
    print(f"drawn: {len(files)} pictures in {folder}", file=sys.stderr)


def _inputs(task: Task, input: str, data: dict[str, Any]) -> Iterable[Any]:
    if Path(input).name.lower().endswith(_TABLES) and Path(input).is_file():
        return _cells(Path(input), data, pictures=task.reads == "image")
    if task.reads == "image":
        return _pictures(input)
    if Path(input).is_dir() and input != "-":
        raise DataError(f"{input}: is a folder, and this model reads texts: input= names a file with one a line")
    if input != "-" and not Path(input).exists():
        raise DataError(f"{input}: there is no such file to read inputs from")
    if Path(input).suffix in _NO_LINES:
        raise DataError(f"{input}: is no file of texts; predict reads one text a line: write them to a .txt first")
    return _lines(input)


def _cells(path: Path, data: dict[str, Any], pictures: bool) -> Iterator[Any]:
    """The sources that a table holds; an empty text where a cell is empty, so that outputs stay beside their rows."""
    pair = None if pictures else data.get("pair")
    own = data.get("image") if pictures else None  # of a caption_table
    columns = Columns(data.get("source") or own or "source", "", pair, pictures)
    find = partial(find_picture, folders=tuple(_picture_folders(path, data)))
    for cells, where in read_table(path, [column for column in columns if column.option != "target"]):
        source = columns.source_of(cells, where, find)
        yield "" if source is None or (isinstance(source, tuple) and not all(map(str.strip, source))) else source


def _picture_folders(table: Path, data: dict[str, Any]) -> Iterator[Path]:
    """Where the pictures that a table names may lie: beside it, or where the training data had its own."""
    inner = [name for name in (data.get("images"), ".") if isinstance(name, str)]
    for folder in (table.parent, *Root.choose(data.get("root")).folders()):
        for outer in (folder, folder / str(data.get("path") or ".")):
            yield from (outer / name for name in inner)


def _pictures(input: str) -> list[Picture]:
    if input == "-":
        raise DataError("this model reads images: input= names an image or a folder of images, not standard input")
    path = Path(input)
    if not path.exists():
        raise DataError(f"{input}: there is no such image or folder")
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{input}: this model reads images: input= names one, or a folder of them")
    found = path.rglob("*") if path.is_dir() else [path]
    files = sorted((file for file in found if file.suffix.lower() in SUFFIXES), key=_by_number)
    if not files:
        raise DataError(f"{input}: there is no image in this folder; images end in {' '.join(SUFFIXES)}")
    return [Picture(file, in_one_line(str(file))) for file in files]


def _by_number(path: Path) -> list[str | int]:
    """Numbers in names by their value: 2.jpg before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


class _Lines:
    """The prediction alone, one a line.

    Args:
        file: to write to.
        labels: whose probabilities a prediction has; none where it is written word by word.
    """

    def __init__(self, file: IO[str], labels: Sequence[str]) -> None:
        self.file, self.labels = file, labels

    def __call__(self, prediction: Prediction) -> None:
        self.file.write(" ".join(prediction.text.splitlines()) + "\n")


class _Json(_Lines):
    """All of a prediction as an object, one a line."""

    def __call__(self, prediction: Prediction) -> None:
        self.file.write(json.dumps(dataclasses.asdict(prediction), ensure_ascii=False) + "\n")


class _Csv(_Lines):
    """A table: index, source, prediction, score, and the probability of each label; several labels are parted by |."""

    columns = ("index", "source", "text", "score")

    def __init__(self, file: IO[str], labels: Sequence[str]) -> None:
        super().__init__(file, labels)
        self._write([*self.columns, *(f"p_{label}" for label in labels)])

    def __call__(self, prediction: Prediction) -> None:
        shares = dict(prediction.n_best)
        cells = [getattr(prediction, column) for column in self.columns]
        self._write([*cells, *(shares.get(label) for label in self.labels)])

    def _write(self, cells: list[Any]) -> None:
        row = ["|".join(cell.splitlines()) if isinstance(cell, str) else cell for cell in cells]
        csv.writer(self.file, lineterminator="\n").writerow(row)


class _Tsv(_Csv):
    """The same without quoting: what parts columns parts nothing else."""

    def _write(self, cells: list[Any]) -> None:
        row = ("" if cell is None else "|".join(str(cell).splitlines()).replace("\t", " ") for cell in cells)
        self.file.write("\t".join(row) + "\n")


_FORMATS = {".jsonl": _Json, ".csv": _Csv, ".tsv": _Tsv}


def _lines(name: str) -> Iterator[str]:
    place = "standard input" if name == "-" else name
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as stream:
            for number, line in enumerate(iter(partial(stream.readline, LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise DataError(f"{place}:{number}: the line is longer than {LONGEST_LINE >> 20} MB")
                try:
                    yield line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{place}:{number}: is not valid UTF-8 ({error.reason})") from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {error.strerror}") from error


@contextmanager
def _writer(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield cast(IO[str], _Terminal()) if sys.stdout.isatty() else sys.stdout
        return
    path = Path(name).absolute()
    if path.is_dir():
        raise DataError(f"{name}: is a folder; output= names a file in it")
    if not path.parent.is_dir():
        raise DataError(f"{name}: there is no folder {path.parent} to write to")
    try:
        with atomic_writer(path) as file:
            yield file
    except OSError as error:
        raise DataError(f"{name}: cannot be written: {error.strerror}") from error


class _Terminal:
    """Standard output where a person reads it: nothing that a model writes commands the terminal."""

    def write(self, text: str) -> int:
        return sys.stdout.write(printable(text))

    def flush(self) -> None:
        sys.stdout.flush()


def _device(accelerator: str) -> torch.device:
    """A GPU when the model was trained on one and there is one; a CPU can always predict."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
