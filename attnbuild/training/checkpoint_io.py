"""How Lightning writes and reads checkpoints: atomically, and without running what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from attnbuild.training.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoint files on a local or shared disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_checkpoint(path, map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
