"""A trained run in the format of another program: ``export_run``."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from attnbuild.errors import AttnbuildError, ConfigError, Problem
from attnbuild.export.base import Exporter
from attnbuild.model import EncoderDecoder
from attnbuild.registry import build
from attnbuild.training.checkpoint import load
from attnbuild.training.supervised import SupervisedTask

__all__ = ["export_run"]


def export_run(run: Path, format: str, folder: Path) -> list[Path]:
    """Write the chosen checkpoint of a run in another format.

    Args:
        run: a run folder, or a ``.ckpt`` file of one.
        format: name of an exporter.
        folder: must not exist, or be empty; it is there whole or not at all.

    Returns:
        The files written.

    Raises:
        ConfigError: there is no such format, a package is missing, the format cannot express the model, or there is
            something in the folder.
        CheckpointError: there is no such run.
    """
    exporter: Exporter = build("exporter", None, {"type": format}, "format")
    missing = [name for name in exporter.needs if find_spec(name) is None]
    if missing:
        raise ConfigError(f"needs {', '.join(missing)}: pip install attnbuild[export]", "format")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"there is something at {folder}: name another folder", "output")
    loaded = load(run)
    if not isinstance(loaded.model, EncoderDecoder) or not isinstance(loaded.task, SupervisedTask):
        raise ConfigError(f"{format} knows models of an encoder and a decoder, and this task has one of its own", "run")
    refusals = exporter.refusals(loaded.model)
    if refusals:
        raise ConfigError([Problem("format", f"{format} cannot express this model: {reason}") for reason in refusals])
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        exporter.write(loaded.model, loaded.task, unfinished)
        for file, text in loaded.task.artifacts().items():
            (unfinished / file).write_text(text, encoding="utf-8")
        written = sorted(folder / path.relative_to(unfinished) for path in unfinished.iterdir())
        os.chmod(unfinished, 0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(unfinished, folder)
    except OSError as error:
        raise AttnbuildError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written
