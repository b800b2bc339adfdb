"""A run is a folder that explains itself.

    config.yaml       the resolved config        checkpoints/  last, best, averaged, candidates
    overrides.yaml    what the user typed        samples/      predictions after each validation
    log.txt           what was said              maps/         attention maps as pictures
    metrics.csv       step, metric, value, time  tensorboard/  the same for TensorBoard
    summary.json      results and circumstances  tokenizer files, test-*.json, predictions-*.jsonl

Small files are written whole: to a temporary file that then takes the name. They are read as files of a stranger: as
plain values of a bounded size, of which none leads out of the folder.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from attnbuild.errors import CheckpointError, ConfigError
from attnbuild.plain import require_plain
from attnbuild.printable import in_one_line

__all__ = ["RunFolder", "atomic_writer", "home_of", "is_plain_name"]

#: The longest summary that is read; one has some 10 kB.
_MOST_BYTES = 16 << 20
#: Values in it.
_MOST_VALUES = 1_000_000


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 file that gets its name when all of it is written; an error leaves what was there."""
    # The umask is applied by hand: temporary files are private, and a result is not.
    umask = os.umask(0)
    os.umask(umask)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            yield file
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, temporary):
            error.filename = str(path)  # a disk that is full does not say what it was asked to take
        raise


def is_plain_name(name: Any) -> bool:
    """Whether a name from a file of others is that of a file in the folder at hand, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def home_of(run: Path) -> Path:
    """The folder of a run that is named by it, or by one of its checkpoints."""
    return run if run.is_dir() else run.absolute().parents[1]


class RunFolder:
    """The files of one run.

    Args:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.config_file = self.path / "config.yaml"
        self.overrides_file = self.path / "overrides.yaml"
        self.log_file = self.path / "log.txt"
        self.metrics_file = self.path / "metrics.csv"
        self.summary_file = self.path / "summary.json"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.maps = self.path / "maps"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.averaged_checkpoint = self.checkpoints / "averaged.ckpt"

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of an earlier run.

        Raises:
            CheckpointError: there is none.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise CheckpointError(f"{path}: there is no such run folder")
        if not run.config_file.is_file():
            raise CheckpointError(f"{path}: is no run folder: it has no config.yaml")
        return run

    def create(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            message = f"cannot write to {self.path}: {error.strerror}; choose a folder by paths.outputs=DIR"
            raise ConfigError(message, "paths.run") from error

    def write_text(self, name: str, text: str) -> Path:
        """Write a small file whole; ``name`` is relative to the folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as file:
            file.write(text)
        return path

    def write_config(self, config: dict[str, Any], typed: list[str]) -> None:
        """Write the resolved config and what the user typed."""
        import yaml

        self.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        self.write_text("overrides.yaml", yaml.safe_dump(typed, allow_unicode=True))

    def read_config(self) -> dict[str, Any]:
        """The resolved config of the run. What it says is text and numbers: nothing in it is resolved or run.

        Raises:
            CheckpointError: it is damaged.
        """
        config = self._read_yaml(self.config_file)
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.config_file}: is no config")
        return config

    def read_overrides(self) -> list[str]:
        """What the user typed.

        Raises:
            CheckpointError: it is damaged.
        """
        typed = self._read_yaml(self.overrides_file) if self.overrides_file.exists() else None
        if typed is not None and not (isinstance(typed, list) and all(isinstance(word, str) for word in typed)):
            raise CheckpointError(f"{self.overrides_file}: is no list of overrides")
        return typed or []

    def _read_yaml(self, path: Path) -> Any:
        from attnbuild.yaml_files import read_yaml

        try:
            return read_yaml(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        self.write_text("summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """What summary.json holds; empty when there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        if not self.summary_file.is_file():
            return {}
        try:
            with self.summary_file.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES >> 20} MB")
            summary = json.loads(data)
            require_plain(summary, most=_MOST_VALUES)
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.summary_file}: cannot be read: {error}") from error
        if not isinstance(summary, dict):
            raise CheckpointError(f"{self.summary_file}: is no summary")
        return summary

    def chosen_checkpoint(self) -> Path:
        """The checkpoint to test and predict with.

        A finished run has compared the single best and the averaged weights on the validation set and
        noted the better in its summary; one that is not finished has its best so far.

        Raises:
            CheckpointError: the run has no checkpoint yet, or names one elsewhere.
        """
        chosen = self.read_summary().get("checkpoint")
        candidates = [self.best_checkpoint, self.last_checkpoint]
        if chosen is not None:
            if not is_plain_name(chosen):
                told = in_one_line(repr(chosen), 80)
                raise CheckpointError(f"{self.summary_file}: names a checkpoint outside the run: {told}")
            candidates.insert(0, self.checkpoints / chosen)
        for path in candidates:
            if path.is_file():
                return path
        raise CheckpointError(f"{self.path}: has no checkpoint; the run ended before its first validation")

    def next_file(self, pattern: str) -> Path:
        """The first path ``pattern % n`` that is free, n from 1."""
        number = 1
        while (self.path / (pattern % number)).exists():
            number += 1
        return self.path / (pattern % number)
