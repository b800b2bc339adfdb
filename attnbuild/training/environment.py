"""What Lightning is told about the processes that train together: what ``world.py`` found out, nothing else."""

from __future__ import annotations

from lightning.pytorch.plugins.environments import ClusterEnvironment

from attnbuild.training.world import World

__all__ = ["Environment"]


class Environment(ClusterEnvironment):
    """A world as Lightning asks for it.

    Left alone, Lightning guesses from variables: it takes a SLURM batch script for one of the processes that
    the script asks for, and waits for the others.

    Args:
        world: of this process.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning never starts any."""
        return True

    @property
    def main_address(self) -> str:
        return self.world.address

    @property
    def main_port(self) -> int:
        return self.world.port

    @staticmethod
    def detect() -> bool:
        """Never: it is given."""
        return False

    def world_size(self) -> int:
        return self.world.size

    def set_world_size(self, size: int) -> None:
        _same("world size", size, self.world.size)

    def global_rank(self) -> int:
        return self.world.rank

    def set_global_rank(self, rank: int) -> None:
        _same("rank", rank, self.world.rank)

    def local_rank(self) -> int:
        return self.world.local_rank

    def node_rank(self) -> int:
        return self.world.node


def _same(what: str, theirs: int, ours: int) -> None:
    """Lightning counts by itself, too: machines times devices. It must come to the same."""
    if theirs != ours:
        raise RuntimeError(f"{what}: Lightning says {theirs}, and this process was started as {ours}")
