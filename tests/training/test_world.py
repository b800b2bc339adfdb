"""Which process this is, as each way to start processes says it; and how processes come by one run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnbuild.cli.main import main
from attnbuild.errors import ConfigError
from attnbuild.training.world import World, check_shape, current, first_host, require_one

#: What a SLURM 22.05 job really had in its environment, as far as it concerns us: in its batch script, ...
BATCH = {
    "SLURM_JOB_ID": "2",
    "SLURM_JOB_NODELIST": "gpu[08-09]",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "0",
    "SLURM_TASKS_PER_NODE": "2(x2)",
    "SLURM_TASK_PID": "29484",
}

#: ... and in the last of four processes that srun started there.
STEP = BATCH | {
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[08-09]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_TASK_PID": "29503",
}

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "gpu08",
    "MASTER_PORT": "29400",
}

OWN = {
    "ATTNBUILD_RANK_ERRORS": "/tmp/errors",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "40001",
}


def trainer(devices: int, nodes: int = 1) -> dict[str, Any]:
    return {"devices": devices, "num_nodes": nodes, "accelerator": "cpu"}


# Which process this is


def test_a_process_by_itself() -> None:
    assert current({}) == World()
    assert current({}).size == 1


def test_a_batch_script_is_one_process_whatever_it_asks_for() -> None:
    assert current(BATCH) == World()


def test_a_process_of_srun() -> None:
    world = current(STEP)
    assert (world.rank, world.local_rank, world.size, world.node, world.nodes) == (3, 1, 4, 1, 2)
    assert (world.address, world.started_by) == ("gpu08", "srun")
    assert current(STEP | {"SLURM_PROCID": "0", "SLURM_NODEID": "0"}).port == world.port, "all ranks must agree"
    assert current(STEP | {"SLURM_STEP_ID": "1"}).port != world.port
    assert 1024 < world.port < 32768, "the system hands out ports from 32768 by itself"


def test_who_sets_address_and_port_is_heard() -> None:
    world = current(STEP | {"MASTER_ADDR": "10.0.0.8", "MASTER_PORT": "5000"})
    assert (world.address, world.port) == ("10.0.0.8", 5000)


def test_srun_of_one_task_is_one_process() -> None:
    assert current(STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) == World()


def test_a_shell_in_a_step_is_one_process(tmp_path: Path) -> None:
    """A real terminal: the shell's own process has one; what srun starts from that shell has none."""
    code = (
        "import os; from attnbuild.training.world import current\n"
        "os.environ.update(SLURM_PTY_PORT='4000', SLURM_TASK_PID=str(os.getpid()))\n"
        "print('size', current().size)"
    )
    environment = os.environ | STEP | {"PYTHONPATH": str(Path(__file__).parents[2])}
    without = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=True,
    )
    assert "size 4" in without.stdout
    in_terminal = f"import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', {code!r}]))"
    within = subprocess.run(
        [sys.executable, "-c", in_terminal], env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=True
    )
    assert b"size 1" in within.stdout


def test_a_process_of_torchrun() -> None:
    world = current(TORCHRUN)
    assert world == World(3, 1, 4, 1, 2, "gpu08", 29400, "torchrun")
    assert current(STEP | TORCHRUN) == world, "srun starts torchrun, and torchrun the ranks"


def test_a_process_of_our_own_launch() -> None:
    world = current(STEP | TORCHRUN | OWN | {"GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"})
    assert world == World(1, 1, 2, 0, 1, "127.0.0.1", 40001, "attnbuild"), "the nearest counts"
    assert current(OWN) == world


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("vm", "vm"),
        ("a1,b2", "a1"),
        ("gpu[08-11,20],login", "gpu08"),
        ("gpu[3,5-7]", "gpu3"),
        ("rack[1-2]n[03,05]x,y", "rack1n03x"),
    ],
)
def test_the_first_of_a_list_of_machines(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


# Whether the processes are those that the config asks for


@pytest.mark.parametrize(("devices", "nodes"), [(2, 2), (1, 4), (4, 1)])
def test_processes_that_fit(devices: int, nodes: int) -> None:
    size = devices * nodes
    check_shape(World(), trainer(devices), devices)  # this process starts them
    for started_by in ("torchrun", "srun"):
        check_shape(World(size=size, nodes=nodes, started_by=started_by), trainer(devices, nodes), devices)


@pytest.mark.parametrize(
    ("world", "devices", "nodes", "advice"),
    [
        (World(), 2, 2, ["srun --nodes=2 --ntasks-per-node=2", "launcher=slurm", "torchrun --nnodes=2"]),
        (current(TORCHRUN), 4, 1, ["--nnodes=1 --nproc-per-node=4", "trainer.num_nodes=2 trainer.devices=2"]),
        (current(STEP), 1, 1, ["srun --nodes=1 --ntasks-per-node=1", "trainer.num_nodes=2 trainer.devices=2"]),
        (current(STEP), 1, 4, ["srun --nodes=4 --ntasks-per-node=1", "2 processes on each of 2 machines"]),
        (replace(current(STEP), size=3), 2, 2, ["3 processes on 2 machines", "srun --nodes=2 --ntasks-per-node=2"]),
        (World(size=1, started_by="torchrun"), 1, 2, ["1 process on one machine", "torchrun --nnodes=2"]),
    ],
)
def test_processes_that_do_not_fit(world: World, devices: int, nodes: int, advice: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        check_shape(world, trainer(devices, nodes), devices)
    (problem,) = refused.value.problems
    assert problem.path in ("trainer.devices", "trainer.num_nodes")
    assert [text for text in advice if text not in problem.message] == []


def test_several_processes_start_no_jobs() -> None:
    require_one(World())
    with pytest.raises(ConfigError, match="without srun; jobs of a sweep"):
        require_one(current(STEP))


@pytest.mark.parametrize("words", [["test", "run=a"], ["predict", "run=a", "input=b"], ["report", "a"]])
def test_commands_for_one_process_refuse_several(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attnbuild.cli.main.current", lambda: current(STEP))
    assert main(words) == 2
    assert "type it without srun" in capsys.readouterr().err


# How the others come by the run of rank 0

#: Stands for a rank without training: says what it was handed, and does what it is told.
RANK = """
import json, os, sys, time
from attnbuild.errors import AttnbuildError, DataError
from attnbuild.training import handover
from attnbuild.training.distributed import LostPeer
from attnbuild.training.run import RunFolder
from attnbuild.training.world import current

world, folder, mode = current(), sys.argv[1], sys.argv[2]
try:
    if world.rank:
        handed = handover.follow(world)
        with handed.reported():
            print("handed", handed.config["seed"], handed.run.path, handed.typed, flush=True)
            if mode == "other fails":
                raise DataError("numbers.txt:7: is no number")
    else:
        with handover.lead(world):
            if mode == "refused":
                raise AttnbuildError("this cannot work")
            run = RunFolder(folder)
            run.create()
            run.write_config({"seed": 5}, ["seed=5"])
            run.write_summary({"status": "running"})
            handover.hand_out({"seed": 5}, run, ["seed=5"])
            if mode == "other fails":
                while not handover._line.failure():
                    time.sleep(0.05)
                raise LostPeer("the connection to another rank is lost")
except handover.DismissedError as dismissed:
    handover.leave(dismissed.code)
except AttnbuildError as error:
    print("error", error, flush=True)
    handover.leave(error.exit_code)
handover.leave(0)
"""


def start_ranks(folder: Path, mode: str, count: int = 3) -> list[tuple[int, str]]:
    """Exit code and output of each of some ranks, on machines of their own as far as they know."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        second.bind(("127.0.0.1", port + 1))  # it is free, too
    ranks = []
    for rank in range(count):
        variables = TORCHRUN | {
            "RANK": str(rank),
            "GROUP_RANK": str(rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, "-c", RANK, str(folder), mode]
        ranks.append(
            subprocess.Popen(
                command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        said = [process.communicate(timeout=120)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    return [(process.returncode, text) for process, text in zip(ranks, said, strict=True)]


def test_the_others_take_the_run_from_rank_0(tmp_path: Path) -> None:
    lead, *others = start_ranks(tmp_path / "run", "works")
    assert lead == (0, "")
    assert others == [(0, f"handed 5 {tmp_path / 'run'} ['seed=5']\n")] * 2


def test_where_rank_0_refuses_the_others_leave_without_a_word(tmp_path: Path) -> None:
    lead, *others = start_ranks(tmp_path / "run", "refused", 2)
    assert lead == (1, "error this cannot work\n")
    assert others == [(1, "")]
    assert not (tmp_path / "run").exists()


def test_what_goes_wrong_in_another_is_told_by_rank_0(tmp_path: Path) -> None:
    lead, other = start_ranks(tmp_path / "run", "other fails", 2)
    said = f"rank 1 on {socket.gethostname()}: numbers.txt:7: is no number"
    assert lead == (1, f"error {said}\n")
    assert other[0] == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == {"status": "failed", "error": said}
