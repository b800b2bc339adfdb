"""A real SLURM of one node, started for these tests and ended after them: ``make test-slurm``.

It needs root and Debian's packages: apt-get install -y slurm-wlm munge. Nothing of an installed SLURM is
touched: configuration, keys, ports and state are of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")

#: More CPUs than there are, so that jobs run side by side; a job goes back to the queue for seconds, not minutes.
CONFIG = """
ClusterName=attnbuild
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=4
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=15
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=500 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """The folder of a SLURM whose commands work here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found (apt-get install -y slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd needs root")
    # Not pytest's folder: the path of a socket is short, and munged wants folders that nobody else can write to.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as running:
        folder = Path(name)
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=free_ports(2)))
        running.enter_context(pytest.MonkeyPatch.context()).setenv("SLURM_CONF", str(folder / "slurm.conf"))
        names = {"socket": "munge.socket", "key-file": "key", "pid-file": "munged.pid", "log-file": "munged.log"}
        words = [f"--{option}={folder / file}" for option, file in {**names, "seed-file": "seed"}.items()]
        running.enter_context(daemon(folder, "munged", "--foreground", "--force", *words))
        running.enter_context(daemon(folder, "slurmctld", "-D"))
        running.enter_context(daemon(folder, "slurmd", "-D", "-N", host))
        wait_until(lambda: "idle" in asked("sinfo", "--noheader", "--format=%T"), "the node does not come up", 90)
        yield folder
        asked("scancel", "--user=root")
        wait_until(lambda: not asked("squeue", "--noheader"), "jobs do not end", 120)


@contextmanager
def daemon(folder: Path, *command: str) -> Iterator[None]:
    """A program that runs until the tests have ended."""
    with (folder / f"{command[0]}.out").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def asked(*command: str) -> str:
    """What a command of SLURM answers; nothing when it cannot."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout.strip()


def wait_until(holds, otherwise: str, seconds: float) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
