"""Which process this is, and of how many: ``current()``.

Processes that train together are started by attnbuild itself, by torchrun, or by srun. Each leaves word of
it in the environment, and exactly one of them is believed: the nearest. What a SLURM batch script finds
there (``SLURM_NTASKS``) says what was asked for, not what was started, and is not looked at: only a step,
which srun starts, has ``SLURM_STEP_ID``. A shell in a step (``srun --pty bash``) is one process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attnbuild.errors import ConfigError

__all__ = ["OWN_LAUNCH", "World", "check_shape", "current", "first_host", "require_one"]

#: Names the folder where a rank leaves what went wrong with it; set by our own launch alone.
OWN_LAUNCH = "ATTNBUILD_RANK_ERRORS"

#: Ports for ranks that srun starts: below those that the system hands out by itself. Two for each step.
_PORTS = range(12000, 28000, 2)


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this is.

    Attributes:
        rank: number of this process.
        local_rank: its number on its machine: that of its GPU.
        size: how many processes there are.
        node: number of this machine.
        nodes: how many machines there are.
        address: the machine of rank 0.
        port: where rank 0 listens; the port after it is free for us, too.
        started_by: who started the processes; "user" for one that is alone.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    node: int = 0
    nodes: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    started_by: Literal["user", "attnbuild", "torchrun", "srun"] = "user"

    @property
    def on_each_node(self) -> int:
        """Processes on each machine, where they are spread evenly."""
        return self.size // self.nodes


def current(environment: Mapping[str, str] | None = None) -> World:
    """The world of this process.

    Args:
        environment: the variables to read; those of this process by default.
    """
    variables = os.environ if environment is None else environment
    if OWN_LAUNCH in variables:
        return _from_variables(variables, "attnbuild")
    if "TORCHELASTIC_RUN_ID" in variables:
        return _from_variables(variables, "torchrun")
    if int(variables.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_STEP_ID" in variables:
        return World() if _in_terminal(variables) else _from_step(variables)
    return World()


def _from_variables(variables: Mapping[str, str], started_by: Literal["attnbuild", "torchrun"]) -> World:
    """From what torchrun sets, as does our own launch."""
    size = int(variables["WORLD_SIZE"])
    return World(
        rank=int(variables["RANK"]),
        local_rank=int(variables["LOCAL_RANK"]),
        size=size,
        node=int(variables.get("GROUP_RANK", 0)),
        nodes=size // int(variables.get("LOCAL_WORLD_SIZE", size)),
        address=variables["MASTER_ADDR"],
        port=int(variables["MASTER_PORT"]),
        started_by=started_by,
    )


def _from_step(variables: Mapping[str, str]) -> World:
    """From what srun sets."""
    number = 131 * int(variables["SLURM_JOB_ID"]) + int(variables["SLURM_STEP_ID"])
    return World(
        rank=int(variables["SLURM_PROCID"]),
        local_rank=int(variables["SLURM_LOCALID"]),
        size=int(variables["SLURM_STEP_NUM_TASKS"]),
        node=int(variables["SLURM_NODEID"]),
        nodes=int(variables["SLURM_STEP_NUM_NODES"]),
        address=variables.get("MASTER_ADDR") or first_host(variables["SLURM_STEP_NODELIST"]),
        port=int(variables.get("MASTER_PORT") or _PORTS[number % len(_PORTS)]),
        started_by="srun",
    )


def first_host(nodes: str) -> str:
    """The first of a list of machines as SLURM writes it: ``gpu[08-11,20],login`` begins with ``gpu08``."""
    whole = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", whole[0] if whole else nodes)


def _in_terminal(variables: Mapping[str, str]) -> bool:
    """Whether the step is a shell: ``srun --ntasks-per-node=4 --pty bash`` has one process, for what is typed there.

    What is started from that shell by another srun inherits the mark of the terminal, but has none.
    """
    if "SLURM_PTY_PORT" not in variables:
        return False
    try:
        status = Path(f"/proc/{variables['SLURM_TASK_PID']}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return int(status.rpartition(")")[2].split()[4]) != 0  # the number of its terminal


def check_shape(world: World, trainer: Mapping[str, Any], devices: int) -> None:
    """Hold the processes that were started against those that the config asks for.

    Args:
        world: of this process.
        trainer: the section of the config.
        devices: its devices, counted: processes on each machine.

    Raises:
        ConfigError: they are not the same; the message says what to type instead.
    """
    nodes = trainer.get("num_nodes", 1)
    if world.size == 1 and nodes == 1:
        return  # this process starts the others, if there are any
    if world.size == 1 and world.started_by == "user":
        raise ConfigError(
            f"{nodes} machines are asked for, and one process was started. In a SLURM job, type "
            f"'srun --nodes={nodes} --ntasks-per-node={devices} attnbuild train ...', or let launcher=slurm submit "
            f"the job; elsewhere type 'torchrun --nnodes={nodes} --nproc-per-node={devices} "
            "--rdzv-backend=c10d --rdzv-endpoint=HOST:29400 -m attnbuild train ...' on each machine",
            "trainer.num_nodes",
        )
    words = (
        "torchrun --nnodes={} --nproc-per-node={}"
        if world.started_by == "torchrun"
        else ("srun --nodes={} --ntasks-per-node={}")
    )
    again = f"start it with '{words.format(nodes, devices)} ...'"
    if world.size % world.nodes:
        raise ConfigError(
            f"{world.started_by} started {world.size} processes on {world.nodes} machines, "
            f"and every machine needs as many: {again}",
            "trainer.devices",
        )
    if (world.nodes, world.on_each_node) != (nodes, devices):
        raise ConfigError(
            f"{world.started_by} started {_told(world.nodes, world.on_each_node)}, and the config asks for "
            f"{_told(nodes, devices)}: {again}, or type "
            f"trainer.num_nodes={world.nodes} trainer.devices={world.on_each_node}",
            "trainer.devices",
        )


def require_one(world: World) -> None:
    """Refuse what each of several processes would do: start jobs, or answer the same question.

    Raises:
        ConfigError: this is one of several.
    """
    if world.size > 1:
        raise ConfigError(
            f"{world.started_by} started {world.size} processes of a command that one alone carries out: type it "
            f"without {world.started_by}; jobs of a sweep get machines of their own by launcher=slurm"
        )


def _told(nodes: int, each: int) -> str:
    processes = f"{each} process{'es' * (each > 1)}"
    return f"{processes} on one machine" if nodes == 1 else f"{processes} on each of {nodes} machines"
