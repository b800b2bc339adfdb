"""A run is a folder that explains itself.

    config.yaml       the resolved config        checkpoints/  last, best, averaged, candidates
    overrides.yaml    what the user typed        samples/      predictions after each validation
    log.txt           what was said              maps/         attention maps as pictures
    metrics.csv       step, metric, value        tensorboard/  the same for TensorBoard
    summary.json      results and circumstances  tokenizer files, test-*.json, predictions-*.jsonl

Small files are written whole: to a temporary file that then takes the name.
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

__all__ = ["RunFolder", "atomic_writer"]


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
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
        """The resolved config of the run.

        Raises:
            CheckpointError: it is damaged.
        """
        import yaml

        try:
            config = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.config_file}: cannot be read: {error}") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.config_file}: is no config")
        return config

    def read_overrides(self) -> list[str]:
        """What the user typed."""
        import yaml

        return yaml.safe_load(self.overrides_file.read_text(encoding="utf-8")) or []

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        self.write_text("summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """What summary.json holds; empty when there is none."""
        if not self.summary_file.is_file():
            return {}
        return json.loads(self.summary_file.read_text(encoding="utf-8"))

    def chosen_checkpoint(self) -> Path:
        """The checkpoint to test and predict with.

        A finished run has compared the single best and the averaged weights on the validation set and
        noted the better in its summary; one that is not finished has its best so far.

        Raises:
            CheckpointError: the run has no checkpoint yet.
        """
        chosen = self.read_summary().get("checkpoint")
        candidates = [self.best_checkpoint, self.last_checkpoint]
        if chosen is not None:
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
