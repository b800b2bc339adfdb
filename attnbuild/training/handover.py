"""Training with processes that torchrun or srun started, on one machine or several.

All of them run the same command, and rank 0 alone does what it says: it composes the config and makes the
run folder. The others take both from it, over a store of torch's, so that they can never disagree about
them: clocks and random names differ between machines. When rank 0 ends without a run, so do they, and
leave the word to it; what goes wrong in one of them is handed to rank 0, and told once.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from attnbuild.errors import AttnbuildError, ConfigError, OutOfMemory, exit_code_of
from attnbuild.training.distributed import LostPeer
from attnbuild.training.run import RunFolder
from attnbuild.training.world import World

if TYPE_CHECKING:
    from torch.distributed import Store

__all__ = ["DismissedError", "Handed", "follow", "hand_out", "lead", "leave"]

_log = logging.getLogger(__name__)

_RUN, _READ, _FAILED, _ENDED = "run", "read", "failed", "ended"

#: How long rank 0 may take to start, after which this is no world.
_START = timedelta(minutes=10)

#: Seconds that the others may take to hear that there is nothing to train; they may start later than rank 0.
_HEARD_WITHIN = 120.0

#: Seconds between two looks for what rank 0 hands out.
_LOOK_EVERY = 0.2

#: Seconds that rank 0 may take to write its last words, when all were asked to stop.
_LAST_WORDS = 20.0

#: Seconds until a folder that another machine made must be seen on this one.
_SEEN_WITHIN = 60.0


class DismissedError(Exception):
    """There is nothing to train: rank 0 has ended, and has said why.

    Args:
        code: the exit code to leave with.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Handed:
    """What rank 0 hands to the others.

    Attributes:
        config: the resolved config.
        run: the run folder.
        typed: what the user typed.
        rank: number of this process.
        store: the connection to rank 0.
    """

    config: dict[str, Any]
    run: RunFolder
    typed: list[str]
    rank: int
    store: Store

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Let rank 0 tell what goes wrong in this process."""
        try:
            yield
        except LostPeer:  # the reason is with another one
            raise
        except Exception as error:
            said = str(error) if isinstance(error, AttnbuildError) else f"{type(error).__name__}: {error}"
            message = f"rank {self.rank} on {socket.gethostname()}: {said}"
            _report(self.store, {"message": message, "memory": isinstance(error, OutOfMemory)})
            raise

    def after_lead(self) -> None:
        """Wait until rank 0 has ended: srun and torchrun end all processes when the first leaves with an error."""
        deadline = time.monotonic() + _LAST_WORDS
        with suppress(RuntimeError):  # who keeps the store is gone
            while not self.store.check([_ENDED]) and time.monotonic() < deadline:
                time.sleep(_LOOK_EVERY)


class _Line:
    """The connection between rank 0 and the others.

    Args:
        world: of this process.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = _connect(world)
        self.run: RunFolder | None = None

    def close(self, code: int) -> None:
        """Dismiss the others, and wait until all have heard of it: with this process, its store ends.

        Args:
            code: the exit code to leave with, where there is nothing to train.
        """
        if self.run is None:
            self.store.set(_RUN, json.dumps({"code": code}))
        deadline = time.monotonic() + _HEARD_WITHIN
        while self.store.add(_READ, 0) < self.world.size - 1 and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
        self.store.set(_ENDED, "")

    def failure(self) -> AttnbuildError | None:
        """What went wrong in another process, if one said so."""
        try:
            if not self.store.check([_FAILED]):
                return None
            report = json.loads(self.store.get(_FAILED))
        except RuntimeError:  # who keeps the store is gone
            return None
        return (OutOfMemory if report["memory"] else AttnbuildError)(report["message"])


#: The line of rank 0, while it leads others.
_line: _Line | None = None


@contextmanager
def lead(world: World) -> Iterator[None]:
    """Around all that rank 0 does: ``hand_out`` sends the others to work, and without it they end when this does.

    Raises:
        AttnbuildError: another process failed, and this one for want of it.
    """
    global _line
    if world.size == 1 or world.started_by == "attnbuild":
        yield
        return
    line = _line = _Line(world)
    code = 0
    try:
        yield
    except BaseException as error:
        code = exit_code_of(error)
        failure = line.failure()
        if failure is None or (isinstance(error, AttnbuildError) and not isinstance(error, LostPeer)):
            raise
        if line.run is not None:
            status = "oom" if isinstance(failure, OutOfMemory) else "failed"
            line.run.write_summary({**line.run.read_summary(), "status": status, "error": str(failure)})
        raise failure from None
    finally:
        _line = None
        _disconnect()
        with suppress(RuntimeError):  # torchrun has ended its store
            line.close(code)


def hand_out(config: dict[str, Any], run: RunFolder, typed: list[str]) -> None:
    """Send the processes that rank 0 leads to work; without any, nothing happens.

    Args:
        config: the resolved config.
        run: the run folder, which exists.
        typed: what the user typed.
    """
    if _line is not None:
        _line.store.set(_RUN, json.dumps({"config": config, "folder": str(run.path), "typed": typed}))
        _line.run = run


def follow(world: World) -> Handed:
    """Wait for what rank 0 hands out.

    Raises:
        DismissedError: there is nothing to train.
        AttnbuildError: the run folder is not to be seen from here.
    """
    try:
        store = _connect(world)
        while not store.check([_RUN]):  # not store.wait, which is deaf to Ctrl-C
            time.sleep(_LOOK_EVERY)
        handed = json.loads(store.get(_RUN))
        store.add(_READ, 1)
    except RuntimeError as error:  # who keeps the store is gone
        raise DismissedError(AttnbuildError.exit_code) from error
    if "code" in handed:
        raise DismissedError(handed["code"])
    result = Handed(handed["config"], RunFolder(handed["folder"]), handed["typed"], world.rank, store)
    with result.reported():
        _wait_for(result.run.path)
    return result


def leave(code: int) -> NoReturn:
    """End this process.

    Not by ``sys.exit``: the threads of gloo that still run when the interpreter ends abort the process now and then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _report(store: Store, report: dict[str, Any]) -> None:
    try:
        store.compare_set(_FAILED, "", json.dumps(report))  # the first to fail is the cause
    except RuntimeError as error:
        _log.warning("%s (and rank 0 is gone: %s)", report["message"], error)


def _connect(world: World) -> Store:
    """torchrun's own store where it keeps one, else one of rank 0's.

    Raises:
        ConfigError: rank 0 cannot listen there.
    """
    from torch.distributed import DistNetworkError, PrefixStore, TCPStore

    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    port = world.port if kept else world.port + 1
    serves = world.rank == 0 and not kept
    try:
        store = TCPStore(world.address, port, is_master=serves, timeout=_START, wait_for_workers=False)
    except DistNetworkError as error:
        if not serves:
            raise
        message = f"rank 0 cannot listen on port {port}; choose another: MASTER_PORT={port + 100} before the command"
        raise ConfigError(message, "trainer.num_nodes") from error
    # A restart by torchrun finds the same store, and must not find what was said before.
    return PrefixStore(f"attnbuild/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _disconnect() -> None:
    """Stop the threads of the process group, which could abort this process at its end."""
    import torch.distributed

    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def _wait_for(folder: Path) -> None:
    """Until the folder is here: network file systems tell other machines a little later.

    Raises:
        AttnbuildError: it does not come.
    """
    deadline = time.monotonic() + _SEEN_WITHIN
    while not (folder / "config.yaml").is_file():
        if time.monotonic() > deadline:
            raise AttnbuildError(
                f"{folder} is not to be seen here; all machines must share the disk that runs are written to: "
                "choose one by paths.outputs=DIR"
            )
        time.sleep(0.5)
