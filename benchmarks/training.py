"""Real target tokens per second of training, attnbuild's whole stack against its peers' bare loops.

    python benchmarks/training.py [CASE ...] [--rounds 50]      # results/training.{md,json}, training_profile.png

Needs Multi30k (ATTNBUILD_DATA). Every update is of the same sentences for all. attnbuild trains as it is typed, with
its batches, metrics, guard and logs; a peer is its model, ``F.cross_entropy`` and fused AdamW, and nothing else.
All take turns, an update each, round after round, each in a process of its own.

JoeyNMT asks for packages that no longer go together, and forgets one that it needs; what it uses here comes by
``pip install --no-deps joeynmt==2.3.0 "importlib_metadata<8" zipp sentencepiece subword-nmt``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from racing import ask, start
from runs import config_of
from torch import Tensor
from training_peers import DROPOUT, PEERS, RNN_PEERS, SMOOTHING, Peer, Shape, update
from turns import ENDLESS, Parts, Turns, serve_training

from attnbuild.data.batching import Batch
from attnbuild.measure.memory import measure_memory
from attnbuild.measure.record import machine, versions
from attnbuild.training.checkpoint import build_task

PAGE = Path(__file__).parent / "results" / "training.md"
OURS = "attnbuild"
WARM_UP = 3
#: Updates that the profiles are of.
PROFILED = 3


@dataclass(frozen=True)
class Case:
    """A model that all train.

    Attributes:
        told: what it shows, for the page.
        words: what is typed after ``attnbuild train``.
        peers: who trains the same.
        together: a peer lays the sentences of an update out as one batch; otherwise in the very tensors of ours.
    """

    told: str
    words: tuple[str, ...]
    peers: tuple[type[Peer], ...]
    together: bool


COMMON = (
    *("experiment=multi30k", "recipe=null", "model.dim=256", f"model.dropout={DROPOUT}"),
    *(f"task.label_smoothing={SMOOTHING}", *ENDLESS),
)
TRANSFORMER = (
    *COMMON,
    *(f"{part}.{what}" for part in ("encoder", "decoder") for what in ("norm=post", "layers=3", "feedforward=1024")),
    *("attention.heads=4", "attention.dropout=0.1"),
)
RNN = (*COMMON, "encoder=rnn", "decoder=rnn", "attention=luong_general")
IN_PARTS = ("batch.tokens=1024", "trainer.accumulate=4")
AT_ONCE = ("batch.tokens=4096",)
CASES = {
    "transformer": Case(
        "A Transformer; an update is four batches of ours, each of sentences of one length, and a peer's one batch",
        (*TRANSFORMER, *IN_PARTS),
        PEERS,
        together=True,
    ),
    "transformer_same_tensors": Case(
        "The same Transformer on the same tensors for all: sentences of about one length",
        (*TRANSFORMER, *AT_ONCE),
        PEERS,
        together=False,
    ),
    "rnn": Case(
        "A recurrent model with Luong's attention and input feeding, layouts as in the first",
        (*RNN, *IN_PARTS),
        RNN_PEERS,
        together=True,
    ),
    "rnn_same_tensors": Case(
        "The same recurrent model on the same tensors for all",
        (*RNN, *AT_ONCE),
        RNN_PEERS,
        together=False,
    ),
}


@dataclass
class Figures:
    """Of one entrant.

    Attributes:
        speeds: real target tokens per second, by round.
        memory: bytes of one update beyond weights and the optimiser's state, at most.
        outside: share of each update that is neither forward, backward nor optimiser; of ours alone.
        profile: seconds of an update by operator.
    """

    speeds: list[float] = field(default_factory=list)
    memory: int = 0
    outside: list[float] = field(default_factory=list)
    profile: dict[str, float] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    results = earlier(options.page)
    for name in options.cases or CASES:
        results[name] = race(name, CASES[name], options.rounds)
        write({name: results[name] for name in CASES if name in results}, options.page)


def race(name: str, case: Case, rounds: int) -> dict[str, Figures]:
    """All of a case, in turns; ours says which sentences an update is of."""
    with tempfile.TemporaryDirectory() as folder:
        ours = start(serve_training, TimedTurns, case.words, folder)
        lines = {peer.name: start(serve_peer, peer, case.words, case.together) for peer in case.peers}
        figures = {entrant: Figures() for entrant in (OURS, *lines)}
        for line in (ours, *lines.values()):
            line.recv()  # ready
        parts: Parts = []
        for number in range(WARM_UP + rounds):
            seconds, tokens, parts, outside = ask(ours, "update")
            took = {OURS: seconds} | {entrant: ask(line, "update", parts) for entrant, line in lines.items()}
            if number < WARM_UP:
                continue
            figures[OURS].outside.append(outside / seconds)
            for entrant, its in took.items():
                figures[entrant].speeds.append(tokens / its)
        lines[OURS] = ours
        for entrant, line in lines.items():
            figures[entrant].memory = ask(line, "memory", parts)
        for entrant in (OURS, fastest_peer(figures)):
            figures[entrant].profile = ask(lines[entrant], "profile", parts)
        for line in lines.values():
            line.send(None)
    told = ", ".join(f"{entrant} {its.speed:.0f}" for entrant, its in figures.items())
    print(f"{name}: {told}", flush=True)
    return figures


# attnbuild


class TimedTurns(Turns):
    """Tells too how long an update was outside forward, backward and optimiser; can be profiled and weighed."""

    def __init__(self, line: Connection) -> None:
        super().__init__(line)
        self.watch = Stopwatch()
        self.watched = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.watch.follow(module)
        super().on_train_start(trainer, module)

    def told(self, seconds: float) -> tuple[Any, ...]:
        inside, self.watched = self.watch.seconds - self.watched, self.watch.seconds
        return seconds, self.amount, self.parts, seconds - inside

    def answer(self, module: Any, asked: str, parts: Parts) -> Any:
        return ANSWERS[asked](partial(bare_update, module, parts))


def bare_update(module: Any, parts: Parts) -> None:
    """What a peer does, by our model and loss."""
    batches = [Batch(*tensors(module.task, part), torch.tensor(part)) for part in parts]
    losses = [partial(lambda batch: module.task.loss(module.model, batch).total, batch) for batch in batches]
    update(losses, module.optimizers().optimizer, tokens_of(module.task, parts))


class Stopwatch:
    """Seconds in the forward and backward passes and in the optimiser's own work."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def follow(self, module: Any) -> None:
        rule: Any = importlib.import_module("torch.optim.adam")  # AdamW's too
        module.task.loss = self.timed(module.task.loss)
        torch.autograd.backward = self.timed(torch.autograd.backward)
        rule.adam = self.timed(rule.adam)

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = call(*arguments, **options)
            self.seconds += time.perf_counter() - began
            return result

        return timed_call


# Peers


def serve_peer(peer: type[Peer], words: Sequence[str], together: bool, line: Connection) -> None:
    """A bare loop, an update whenever told to."""
    task: Any = build_task(config_of([word for word in words if "turns" not in word]))
    task.prepare(("train",))
    torch.manual_seed(1)
    model = peer(task.source_side.outputs, Shape()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), fused=True)
    line.send("ready")
    while (told := line.recv()) is not None:
        asked, parts = told
        laid_out = [[index for part in parts for index in part]] if together else parts
        line.send(ANSWERS[asked](partial(update_of_peer, model, optimizer, task, laid_out)))


def update_of_peer(model: Peer, optimizer: torch.optim.Optimizer, task: Any, parts: Parts) -> None:
    losses = [partial(lambda part: model.loss(*tensors(task, part)), part) for part in parts]
    update(losses, optimizer, tokens_of(task, parts))


def tensors(task: Any, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Padded source and target of sentences."""
    source, target = task.corpora["train"].rows(indices)
    return task.source_side.collate(source), task.target_side.collate(target)


def tokens_of(task: Any, parts: Parts) -> int:
    """Real target tokens, which a decoder is asked for."""
    return sum(len(row) + 1 for part in parts for row in task.corpora["train"].rows(part)[1])


# What can be asked of an update


def seconds_of(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def memory_of(call: Callable[[], Any]) -> int:
    return measure_memory(call).peak


def profile_of(call: Callable[[], Any]) -> dict[str, float]:
    """Seconds of an update by operator, each without those that it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(PROFILED):
            call()
    return {event.key: event.self_cpu_time_total / 1e6 / PROFILED for event in profile.key_averages()}


ANSWERS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "update": seconds_of,
    "memory": memory_of,
    "profile": profile_of,
}

# The page


def earlier(path: Path) -> dict[str, dict[str, Figures]]:
    """What was measured before, by case and system."""
    if not path.with_suffix(".json").exists():
        return {}
    kept = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["figures"]
    return {case: {name: Figures(**its) for name, its in found.items()} for case, found in kept.items()}


def write(results: dict[str, dict[str, Figures]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "rows": list(rows(results)),
        "figures": {case: {name: asdict(its) for name, its in found.items()} for case, found in results.items()},
        "machine": machine(),
        "versions": versions(("attnbuild", "torch", "lightning", "transformers", "joeynmt", "x-transformers")),
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    path.write_text("\n".join(page(results, record, path)) + "\n", encoding="utf-8")


def rows(results: dict[str, dict[str, Figures]]) -> Iterator[dict[str, Any]]:
    for case, found in results.items():
        for name, its in found.items():
            row = {"case": case, "system": name}
            yield {**row, "metric": "target_tokens_per_second", "value": its.speed, "unit": "tokens/s"}
            yield {**row, "metric": "peak_memory", "value": its.memory / 2**20, "unit": "MB"}
        of_ours = {"case": case, "system": OURS}
        yield {**of_ours, "metric": "ratio_to_fastest_peer", "value": ratio(found), "unit": "ratio"}
        yield {**of_ours, "metric": "outside", "value": 100 * statistics.median(found[OURS].outside), "unit": "percent"}


def ratio(found: dict[str, Figures]) -> float:
    """Of our speed to the fastest peer's."""
    return found[OURS].speed / found[fastest_peer(found)].speed


def fastest_peer(found: dict[str, Figures]) -> str:
    return max((name for name in found if name != OURS), key=lambda name: found[name].speed)


def page(results: dict[str, dict[str, Figures]], record: dict[str, Any], path: Path) -> Iterator[str]:
    yield "# Training"
    yield ""
    rounds = min(len(its.speeds) for found in results.values() for its in found.values())
    yield "Written by `benchmarks/training.py`: real (unpadded) target tokens per second, the median of at least"
    yield f"{rounds} rounds in which all take turns (quartiles in brackets), an update each of the same"
    yield "sentences. attnbuild trains through its whole stack; a peer is a bare loop. Multi30k English-German, joint"
    yield "BPE of 8,000, dim 256, tied embeddings, dropout 0.1, label smoothing 0.1, fp32, fused AdamW; about 4,096"
    yield "padded tokens an update. Memory is what an update takes beyond weights and the optimiser's state, at most."
    for case, found in results.items():
        outside = statistics.median(found[OURS].outside)
        yield from ("", f"## {CASES[case].told}", "")
        yield "| system | tokens/s | attnbuild is | peak MB |"
        yield "|---|---|---|---|"
        for name, its in sorted(found.items(), key=lambda item: -item[1].speed):
            low, _, high = statistics.quantiles(its.speeds, n=4)
            times = "" if name == OURS else f"{found[OURS].speed / its.speed:.2f} times as fast"
            yield f"| {name} | {its.speed:.0f} ({low:.0f} to {high:.0f}) | {times} | {its.memory / 2**20:.0f} |"
        yield from ("", f"Outside forward, backward and optimiser: {outside:.1%} of the time of attnbuild. Typed:", "")
        yield f"`attnbuild train {' '.join(CASES[case].words)}`"
    picture = draw(results, path)
    yield from ("", f"![operators of an update]({picture.name})", "")
    yield f"{record['machine']}; {', '.join(f'{name} {number}' for name, number in record['versions'].items())}"


def draw(results: dict[str, dict[str, Figures]], path: Path, most: int = 14) -> Path:
    """Seconds of an update by operator, ours beside the fastest peer's, in the first case."""
    from matplotlib.figure import Figure

    case, found = next(iter(results.items()))
    peer = fastest_peer(found)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    both = {name: found[name].profile for name in (OURS, peer)}
    longest = sorted(set().union(*both.values()), key=lambda key: -max(its.get(key, 0) for its in both.values()))[:most]
    for shift, (name, profile) in zip((-0.2, 0.2), both.items(), strict=True):
        values = [1e3 * profile.get(key, 0) for key in longest]
        total = sum(profile.values())
        axes.barh([number + shift for number in range(len(longest))], values, 0.4, label=f"{name}: {total:.2f} s")
    axes.set_yticks(range(len(longest)), longest)
    axes.invert_yaxis()
    axes.set(xlabel="ms of an update, without those that an operator calls", title=f"Where the time goes: {case}")
    axes.legend()
    axes.grid(axis="x", alpha=0.3)
    picture = path.with_name(f"{path.stem}_profile.png")
    figure.savefig(picture, dpi=110)
    return picture


if __name__ == "__main__":
    main()
