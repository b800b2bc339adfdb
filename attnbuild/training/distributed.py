"""Training with several processes on one machine.

The parent writes the config into the run folder and starts the ranks, which read it from there: what
was typed is never typed again, so a sweep cannot start itself in a child.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnbuild.errors import INTERRUPTED, AttnbuildError, OutOfMemory
from attnbuild.training.run import RunFolder, atomic_writer
from attnbuild.training.world import OWN_LAUNCH, check_shape, current

__all__ = [
    "LostPeer",
    "check_started",
    "check_world",
    "is_rank",
    "launch",
    "lost_peers_told",
    "process_count",
    "rank",
    "report_error",
    "watch_parent",
]

#: Names the process that started a rank; set in ranks alone.
_PARENT = "ATTNBUILD_RANK_PARENT"

#: Seconds that ranks have to end by themselves after they were asked to.
_PATIENCE = 15.0

#: Seconds that a rank has to say what went wrong with it, after others lost the connection to it.
_GRACE = 5.0

Ranks = list["subprocess.Popen[bytes]"]

#: How gloo and NCCL say that another process is gone.
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "remote process exited",
)


class LostPeer(AttnbuildError):  # noqa: N818
    """Another rank is gone, and this one cannot go on without it."""


#: What a rank reports an error as -> which errors those are; the first that fits.
_KINDS: dict[str, type[BaseException]] = {
    "memory": OutOfMemory,
    "lost": LostPeer,
    "user": AttnbuildError,
    "defect": BaseException,
}


def is_rank() -> bool:
    """Whether this process is one of several that our own launch started, which tells what goes wrong with them."""
    return OWN_LAUNCH in os.environ


def rank() -> int:
    """Which rank this process is; 0 when it is alone."""
    return current().rank


def process_count(section: dict[str, Any]) -> int:
    """How many processes on each machine the section ``trainer`` asks for: one for each device."""
    if section["devices"] != "auto":
        return section["devices"]
    world = current()
    if world.size > 1:
        return world.on_each_node  # whoever started them has counted
    import torch

    return 1 if section["accelerator"] == "cpu" else max(1, torch.cuda.device_count())


def check_started(section: dict[str, Any]) -> None:
    """Refuse what the section ``trainer`` asks for where other processes were started.

    Raises:
        ConfigError: more or fewer, or on other machines.
    """
    check_shape(current(), section, process_count(section))


def launch(run: RunFolder, processes: int, lock: int | None = None) -> None:
    """Run the ranks of a training and wait for them; ending this process ends them too.

    Args:
        run: the run folder, with the config.
        processes: how many.
        lock: an open file that the ranks keep open, as long as they live.

    Raises:
        OutOfMemory: a batch of a rank did not fit into memory.
        AttnbuildError: a rank failed; the message is that of the lowest one that says why.
        KeyboardInterrupt: Ctrl-C; no rank is left running.
    """
    with tempfile.TemporaryDirectory(prefix="attnbuild-ranks-") as folder:
        ranks = _start(run, processes, Path(folder), lock)
        try:
            failed = _wait(ranks, Path(folder))
        except KeyboardInterrupt:
            _end(ranks)
            _note(run, status="interrupted")
            raise
        finally:
            _end(ranks)
        if failed and all(code == INTERRUPTED for *_, code in failed):  # somebody asked a rank to stop, not us
            _note(run, status="interrupted")
            raise KeyboardInterrupt
        if failed:
            error = _reason(Path(folder), failed)
            _note(run, status="oom" if isinstance(error, OutOfMemory) else "failed", error=str(error))
            raise error


def check_world(expected: int) -> None:
    """Refuse to train when the processes are not the ones that the trainer counts on.

    Without this a run that says it has two processes may train on half of the data, in silence.

    Raises:
        RuntimeError: more or fewer are connected.
    """
    import torch.distributed

    connected = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if connected != expected:
        raise RuntimeError(f"{connected} processes are connected, but the trainer counts on {expected}")


def report_error(error: BaseException) -> None:
    """Leave a message for the parent."""
    message = str(error) if isinstance(error, AttnbuildError) else f"{type(error).__name__}: {error}"
    kind = next(kind for kind, errors in _KINDS.items() if isinstance(error, errors))
    with atomic_writer(Path(os.environ[OWN_LAUNCH]) / f"{rank():05d}.json") as file:
        json.dump({"rank": rank(), "message": message, "kind": kind}, file)


@contextmanager
def lost_peers_told() -> Iterator[None]:
    """Say so where a rank ends only because another one is gone: the reason is with that one.

    Raises:
        LostPeer: the connection to another rank broke.
    """
    try:
        yield
    except Exception as error:
        if current().size == 1 or isinstance(error, AttnbuildError) or not any(text in str(error) for text in _LOST):
            raise
        raise LostPeer(f"the connection to another rank is lost ({str(error).splitlines()[0]})") from error


def watch_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """End this process when the one that started it is gone, even if that was killed.

    Args:
        end: what ends it.
    """
    parent = int(os.environ.get(_PARENT, os.getppid()))  # it may be gone already

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        end()

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def _start(run: RunFolder, processes: int, errors: Path, lock: int | None) -> Ranks:
    threads = max(1, (os.cpu_count() or 1) // processes)
    shared = {
        "OMP_NUM_THREADS": str(threads),  # more threads than cores make every rank slower
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GROUP_RANK": "0",
        OWN_LAUNCH: str(errors),
        _PARENT: str(os.getpid()),
    }
    kept = () if lock is None else (lock,)
    command = [sys.executable, "-m", "attnbuild.training.rank", str(run.path)]
    ranks: Ranks = []
    for number in range(processes):
        environment = {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}
        # A session of its own: Ctrl-C reaches the parent alone, which then ends the ranks in order.
        ranks.append(subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=kept))
    return ranks


def _wait(ranks: Ranks, errors: Path) -> list[tuple[int, int, int]]:
    """Wait until all have ended well, or some have not: rank, process and exit code of those.

    Ranks that only lost the connection to another one leave that one some time to say why.
    """
    deadline = math.inf
    while True:
        codes = [process.poll() for process in ranks]
        failed = [(number, ranks[number].pid, code) for number, code in enumerate(codes) if code]
        known = any(code < 0 for *_, code in failed) or any(report["kind"] != "lost" for report in _reports(errors))
        if None not in codes or (failed and (known or time.monotonic() > deadline)):
            return failed
        if failed:
            deadline = min(deadline, time.monotonic() + _GRACE)
        time.sleep(0.1)


def _end(ranks: Ranks) -> None:
    """Ask the ranks that still run to end, and insist."""
    running = [process for process in ranks if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    try:
        for process in running:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in running:
            process.kill()
            process.wait()


def _note(run: RunFolder, **values: str) -> None:
    """Correct the summary that the first rank wrote; it may have been ended before it could."""
    run.write_summary({**run.read_summary(), **values})


def _reason(folder: Path, failed: list[tuple[int, int, int]]) -> AttnbuildError:
    """Why ranks failed. What a user can mend says most; a lost connection only that another one is to blame."""
    said = {kind: [report for report in _reports(folder) if report["kind"] == kind] for kind in _KINDS}
    for kind in ("memory", "user"):
        for report in said[kind]:
            return (OutOfMemory if kind == "memory" else AttnbuildError)(f"rank {report['rank']}: {report['message']}")
    for number, process, code in failed:
        if code < 0:
            return AttnbuildError(f"rank {number} (process {process}) was ended by {_signal_name(-code)}")
    for report in said["defect"] + said["lost"]:
        return AttnbuildError(f"rank {report['rank']}: {report['message']}")
    number, _, code = failed[0]
    return AttnbuildError(f"rank {number} ended with exit code {code}")


def _reports(folder: Path) -> list[dict[str, Any]]:
    """What ranks said of their errors, the lowest first."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name if number in {*signal.Signals} else f"signal {number}"
    more = "; perhaps the system ran out of memory, see dmesg" if number == signal.SIGKILL else ""
    return f"{name}{more}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
