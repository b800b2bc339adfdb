"""Training with several processes on one machine.

The parent writes the config into the run folder and starts the ranks, which read it from there: what
was typed is never typed again, so a sweep cannot start itself in a child.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from attnbuild.errors import AttnbuildError
from attnbuild.training.run import RunFolder

__all__ = ["check_world", "is_rank", "launch", "process_count", "rank", "report_error", "watch_parent"]

#: Names the folder where a rank leaves what went wrong with it; set in ranks alone.
_ERRORS = "ATTNBUILD_RANK_ERRORS"

#: Seconds that ranks have to end by themselves after they were asked to.
_PATIENCE = 15.0

Ranks = list["subprocess.Popen[bytes]"]


def is_rank() -> bool:
    """Whether this process is one of several that a parent started."""
    return _ERRORS in os.environ


def rank() -> int:
    """Which rank this process is; 0 when it is alone."""
    return int(os.environ["RANK"]) if is_rank() else 0


def process_count(section: dict[str, Any]) -> int:
    """How many processes the section ``trainer`` asks for: one for each device."""
    if section["devices"] != "auto":
        return section["devices"]
    import torch

    return 1 if section["accelerator"] == "cpu" else max(1, torch.cuda.device_count())


def launch(run: RunFolder, processes: int) -> None:
    """Run the ranks of a training and wait for them; ending this process ends them too.

    Raises:
        AttnbuildError: a rank failed; the message is that of the lowest one that says why.
        KeyboardInterrupt: Ctrl-C; no rank is left running.
    """
    with tempfile.TemporaryDirectory(prefix="attnbuild-ranks-") as folder:
        ranks = _start(run, processes, Path(folder))
        try:
            code = _wait(ranks)
        except KeyboardInterrupt:
            _end(ranks)
            _note(run, status="interrupted")
            raise
        finally:
            _end(ranks)
        if code:
            message = _first_error(Path(folder)) or f"a rank ended with exit code {code}"
            _note(run, status="failed", error=message)
            raise AttnbuildError(message)


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
    file = Path(os.environ[_ERRORS]) / f"{rank():05d}.json"
    file.write_text(json.dumps({"rank": rank(), "message": message}), encoding="utf-8")


def watch_parent() -> None:
    """End this process when the one that started it is gone, even if that was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def _start(run: RunFolder, processes: int, errors: Path) -> Ranks:
    threads = max(1, (os.cpu_count() or 1) // processes)
    shared = {
        "OMP_NUM_THREADS": str(threads),  # more threads than cores make every rank slower
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(processes),
        _ERRORS: str(errors),
    }
    command = [sys.executable, "-m", "attnbuild.training.rank", str(run.path)]
    ranks: Ranks = []
    for number in range(processes):
        environment = {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}
        # A session of its own: Ctrl-C reaches the parent alone, which then ends the ranks in order.
        ranks.append(subprocess.Popen(command, env=environment, start_new_session=True))
    return ranks


def _wait(ranks: Ranks) -> int:
    """Wait until all have ended well, or one has not; its exit code."""
    while True:
        codes = [process.poll() for process in ranks]
        for code in codes:
            if code:
                return code
        if all(code == 0 for code in codes):
            return 0
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


def _first_error(folder: Path) -> str | None:
    for path in sorted(folder.glob("*.json")):
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return f"rank {report['rank']}: {report['message']}"
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
