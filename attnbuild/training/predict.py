"""Using a trained model: ``predict_run`` reads inputs, one a line, and writes outputs in their order."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import torch

from attnbuild.errors import DataError
from attnbuild.training.changes import changed
from attnbuild.training.checkpoint import load
from attnbuild.training.run import atomic_writer
from attnbuild.training.task import Prediction

__all__ = ["predict_run"]


def predict_run(run: Path, input: str, output: str, changes: dict[str, Any]) -> int:
    """Predict every line of a file with the chosen checkpoint of a run.

    Lines are read as they are needed, so the input may be longer than memory, or a pipe.

    Args:
        run: a run folder or a ``.ckpt`` file.
        input: a file, or "-" for standard input.
        output: a file, written whole at the end, or "-" for standard output. A name that ends in
            ``.jsonl`` gets an object a line, with scores and all outputs that the search returned.
        changes: sections of the config to do otherwise.

    Returns:
        How many lines were written.

    Raises:
        DataError: the input cannot be read, or the output cannot be written.
    """
    if input != "-" and (Path(input).is_dir() or not Path(input).exists()):
        raise DataError(f"{input}: there is no such file to read inputs from")
    loaded = changed(load(run, changes.get("plugins")), changes)
    search = loaded.task.search(loaded.config["search"])
    model = loaded.model.to(_device(loaded.config["trainer"]["accelerator"]))
    count = 0
    with _writer(output) as file, torch.inference_mode():
        for prediction in loaded.task.predict(model, _lines(input), search):
            file.write(_rendered(prediction, as_json=output.endswith(".jsonl")) + "\n")
            if output == "-":
                file.flush()
            count += 1
    return count


def _rendered(prediction: Prediction, as_json: bool) -> str:
    if as_json:
        return json.dumps(dataclasses.asdict(prediction), ensure_ascii=False)
    return prediction.text.replace("\n", " ")


def _lines(name: str) -> Iterator[str]:
    place = "standard input" if name == "-" else name
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(f"{place}:{number}: is not valid UTF-8 ({error.reason})") from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read: {error.strerror}") from error


@contextmanager
def _writer(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
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


def _device(accelerator: str) -> torch.device:
    """A GPU when the model was trained on one and there is one; a CPU can always predict."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")
