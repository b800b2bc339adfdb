"""What keeping two processes in step costs: results/sync.{md,json}.

    python benchmarks/sync.py [--steps 20] [--rounds 7] [WORDS ...]     # words as after `attnbuild train`

Entrants take turns, round after round, each time with a training of its own on the same batches; a step's time is the
median over the rounds, and the steps add up. All processes train on the same batch, so nobody waits because
another's sentences are longer: what is left is the price of the messages, and of slices that are gathered.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from runs import config_of

from attnbuild.measure.record import machine, versions

PAGE = Path(__file__).parent / "results" / "sync.md"
#: A small Transformer on embedded sentences.
WORDS = ("experiment=demo", "data.train=2000", "trainer=ddp_sim", "trainer.threads=1")
#: Steps at the start of a training that do not count.
WARM_UP = 3
#: Entrant -> its processes, its strategy, and whether the weights of losses are added up over the ranks.
ENTRANTS: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "one process": (("single 0",), "auto", True),
    "two, not in step": (("single 0", "single 1"), "auto", True),
    "ddp": (("rank 0", "rank 1"), "ddp", True),
    "ddp, weights not added up": (("rank 0", "rank 1"), "ddp", False),
    "fsdp": (("rank 0", "rank 1"), "fsdp", True),
    "fsdp, weights not added up": (("rank 0", "rank 1"), "fsdp", False),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of each training that count")
    parser.add_argument("--rounds", type=int, default=7, help="trainings of each entrant")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("words", nargs="*", help="as after `attnbuild train`")
    options = parser.parse_args(argv)
    words = (*WORDS, *options.words)
    with tempfile.TemporaryDirectory() as folder:
        steps, told = _race(config_of(words), options.steps, options.rounds, Path(folder))
    record = {
        "rows": _rows(steps),
        "steps_ms": steps,
        "words": words,
        "rounds": options.rounds,
        "parameters": told,
        "machine": machine(),
        "versions": versions(("attnbuild", "torch", "lightning")),
    }
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    options.page.write_text(_page(record), encoding="utf-8")


# The race


def _race(config: dict[str, Any], steps: int, rounds: int, folder: Path) -> tuple[dict[str, list[float]], int]:
    """Entrant -> milliseconds of each step, and the number of parameters; the processes wait for their turns."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines: dict[str, Connection] = {}
    processes = []
    for name in ("single 0", "single 1", "rank 0", "rank 1"):
        lines[name], theirs = context.Pipe()
        process = context.Process(target=_serve, args=(name, config, port, str(folder), theirs), daemon=True)
        process.start()
        theirs.close()  # so that its death is noticed here
        processes.append(process)
        parameters = lines[name].recv()  # one after the other: the first fills the caches
    times: dict[str, list[list[float]]] = {entrant: [] for entrant in ENTRANTS}
    for number in range(rounds):
        for entrant, (of, strategy, adds_weights) in ENTRANTS.items():
            for name in of:
                lines[name].send((strategy, adds_weights, steps))
            times[entrant].append(_slowest([lines[name].recv() for name in of]))
        print(f"round {number + 1} of {rounds}", flush=True)
    for line in lines.values():
        line.send(None)
    for process in processes:
        process.join()
    return {
        entrant: [statistics.median(step) for step in zip(*turns, strict=True)] for entrant, turns in times.items()
    }, parameters


def _slowest(times: list[list[float]]) -> list[float]:
    """A step is done when all have done it."""
    return [max(step) for step in zip(*times, strict=True)]


def _serve(name: str, config: dict[str, Any], port: int, folder: str, line: Connection) -> None:
    """One process: prepare the data, then train whenever told to, until there is no more."""
    import torch

    from attnbuild.training.checkpoint import build_task

    kind, _, number = name.partition(" ")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, {cores[int(number) % len(cores)]})
    if kind == "rank":
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        os.environ |= {"RANK": number, "LOCAL_RANK": number, "ATTNBUILD_RANK_ERRORS": folder}
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = build_task(config)
    task.prepare(("train",))
    _same_batches(task)
    line.send(sum(parameter.numel() for parameter in task.build_model().parameters()))
    while (told := line.recv()) is not None:
        strategy, adds_weights, steps = told
        line.send(_train(task, config, Path(folder), strategy, adds_weights, steps))


def _same_batches(task: Any) -> None:
    """All processes see the batches of one."""
    make = task.train_loader
    task.train_loader = lambda **options: make(rank=0, world_size=1, start_step=options["start_step"])


def _train(
    task: Any, config: dict[str, Any], folder: Path, strategy: str, adds_weights: bool, steps: int
) -> list[float]:
    """Milliseconds of each step of a training."""
    import torch

    from attnbuild.training.module import Module
    from attnbuild.training.trainer import build_trainer

    trainer = config["trainer"] | {"strategy": strategy, "devices": 1 if strategy == "auto" else 2}
    trainer |= {"max_steps": WARM_UP + steps + 1, "limit_eval_batches": 0}
    config = config | {"trainer": trainer}
    torch.manual_seed(config["seed"])
    module = Module(task, task.build_model(), config)
    if not adds_weights:
        module.sum_over_ranks = lambda value: value
    clock = _clock()
    build_trainer(config, folder, callbacks=[clock]).fit(module)
    found = [1e3 * (after - before) for before, after in zip(clock.started, clock.started[1:], strict=False)]
    return found[WARM_UP:]


def _clock() -> Any:
    from lightning.pytorch import Callback

    class Clock(Callback):
        """Notes when steps begin."""

        def __init__(self) -> None:
            self.started: list[float] = []

        def on_train_batch_start(self, *args: Any) -> None:
            self.started.append(time.perf_counter())

    return Clock()


# The page


def _shares(steps: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """System -> figures: milliseconds of a step, and the shares of it that go into keeping in step."""
    mean = {entrant: statistics.mean(times) for entrant, times in steps.items()}
    apart = mean["two, not in step"]
    figures = {name: {"step": mean[name]} for name in ("one process", "two, not in step")}
    for name in ("ddp", "fsdp"):
        whole, without = mean[name], mean[f"{name}, weights not added up"]
        figures[name] = {
            "step": whole,
            "gradient_share": 100 * (without - apart) / whole,
            "weight_share": 100 * (whole - without) / whole,
        }
    return figures


def _rows(steps: dict[str, list[float]]) -> list[dict[str, Any]]:
    units = {"step": "ms", "gradient_share": "percent", "weight_share": "percent"}
    return [
        {"case": "two processes", "system": system, "metric": metric, "value": value, "unit": units[metric]}
        for system, figures in _shares(steps).items()
        for metric, value in figures.items()
    ]


def _page(record: dict[str, Any]) -> str:
    table = []
    for system, figures in _shares(record["steps_ms"]).items():
        shares = [f"{figures[name]:.1f} %" if name in figures else "" for name in ("gradient_share", "weight_share")]
        table.append(f"| {system} | {figures['step']:.1f} | {' | '.join(shares)} |")
    of, at = record["machine"], record["versions"]
    count = len(record["steps_ms"]["ddp"])
    return "\n".join(
        [
            "# What keeping in step costs",
            "",
            "Written by `benchmarks/sync.py`: two processes of one thread each on a CPU, messages by gloo; a model of",
            f"{record['parameters']:,} parameters, `attnbuild train {' '.join(record['words'])}`.",
            f"The mean of {count} steps, each the median of {record['rounds']} interleaved rounds. All processes train",
            "on the same batches.",
            "",
            "| | a step, ms | gradients | weights |",
            "|---|---|---|---|",
            *table,
            "",
            "gradients: share of a step that goes into reducing gradients and, under fsdp, gathering parameters: what",
            "a step takes longer than in two processes that know nothing of each other. weights: share that goes into",
            "adding up the weight of the losses (tokens) over the ranks, once for each update. Shares below about 1 %",
            "are noise, and may come out negative.",
            "",
            f"{of['cpu']}, {of['cores']} cores; {', '.join(f'{name} {number}' for name, number in at.items())}",
            "",
        ]
    )


if __name__ == "__main__":
    main()
