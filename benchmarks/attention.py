"""Each attention against its best public implementation, in one run: results/attention.{md,json,png}.

    python benchmarks/attention.py                      # all of it
    python benchmarks/attention.py window linformer     # some matches; the figures of the others stay
    python benchmarks/attention.py --device cuda        # flash and FlexAttention rows too, in bf16

Same shapes, same keys seen, forward and backward, 8 heads of 64. Where the mathematics agrees, both sides get the
same weights and must give equal outputs before they race. Turns are interleaved, medians count; memory is the peak
that the allocator wrote down, beyond inputs and parameters. Who races whom is in attention_peers.py.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from attention_page import BARE, BLOCK, Record, write
from attention_peers import DIM, HEADS, MATCHES, OURS, Match, OnHeads, Setting, inputs
from torch import Tensor, nn

from attnbuild import build_attention, list_names
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.presets import load_preset
from attnbuild.attention.spec import AttentionSpec
from attnbuild.measure.layers import Bench, pass_through
from attnbuild.measure.memory import measure_memory
from attnbuild.measure.race import Race, exponent
from attnbuild.memory import Memory

PAGE = Path(__file__).parent / "results" / "attention.md"
LENGTHS = {"cpu": [512, 2048, 8192, 16384], "cuda": [512, 2048, 8192, 16384, 32768, 65536]}


@dataclass
class Asked:
    """What was typed."""

    setting: Setting
    lengths: list[int]
    repeats: int
    limit_s: float
    page: Path


# The jobs


def race(match: Match, asked: Asked, record: Record) -> None:
    """Check that both sides compute the same, then time them."""
    if asked.setting.device == "cpu":
        try:
            record.checks[match.title] = match.check()
        except Exception as error:  # a peer may fail in any way; it is told, and the race goes on
            record.checks[match.title] = f"NOT EQUAL: {type(error).__name__}: {error}"
    entrants = match.entrants(asked.setting)
    run = Race(entrants, repeats=asked.repeats, limit_s=asked.limit_s, device=asked.setting.device, tell=say)
    for (system, length), figures in run.run(asked.lengths).items():
        record.put(match.case(length, asked.setting), system, figures)
    for system in entrants:
        put_exponents(record, match.title, system, asked.setting)


def put_exponents(record: Record, title: str, system: str, setting: Setting) -> None:
    """From 2048 to 8192, as the targets have it."""
    for metric in ("time", "peak_memory"):
        values = [record.get(f"{title} {length}{setting.suffix}", system, metric) for length in (2048, 8192)]
        if None not in values:
            growth = exponent([(at, value or 0.0) for at, value in zip((2048, 8192), values, strict=True)])
            record.add(f"{title}{setting.suffix}", system, f"{metric}_exponent", growth, "")


def presets(asked: Asked, record: Record) -> None:
    """Every preset as it ships, a whole layer of width 512: what the pages of the docs show."""
    entrants = {}
    lengths = [length for length in asked.lengths if length <= 8192]
    for name in list_names("attention"):
        bench = bench_of(name, asked)
        if bench is None:
            record.left_out[name, OURS] = "it serves the steps of a recurrent decoder alone"
        else:
            config = load_preset(name)
            entrants[name] = lambda length, bench=bench, config=config: bench.call(config, length)
    limit_s = min(asked.limit_s, 10.0)  # there are many, and their races are elsewhere
    run = Race(entrants, repeats=asked.repeats, limit_s=limit_s, device=asked.setting.device, tell=say)
    for (name, length), figures in run.run(lengths).items():
        record.put(f"{name} {length}{asked.setting.suffix}", OURS, figures)
    for name in entrants:
        put_exponents(record, name, OURS, asked.setting)


def bench_of(preset: str, asked: Asked) -> Bench | None:
    """Self-attention, else causal, else cross-attention."""
    can = AttentionSpec.from_config(load_preset(preset)).capabilities
    for kind in (PlaceKind(), PlaceKind(causal=True), PlaceKind(cross=True)):
        if can.refusal(kind) is None:
            return Bench(
                dim=DIM,
                heads=HEADS,
                causal=kind.causal,
                cross=kind.cross,
                dtype=asked.setting.dtype,
                device=asked.setting.device,
                longest=max(asked.lengths),
            )
    return None


class Bare(nn.Module):
    """Four linear layers and SDPA, and nothing that a block does besides."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (
            projection(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        return self.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def fixed_cost(asked: Asked, record: Record) -> None:
    """What the block adds to its arithmetic: in microseconds, where there is next to no arithmetic.

    At the real shape the difference of two medians is mostly noise; it is recorded beside.
    """
    dim, heads, batch, length = 256, 4, 32, 128
    layer, bare = build_attention("multihead", dim=dim, heads=heads), Bare(dim, heads)
    for module in (layer, bare):
        module.to(asked.setting.device, asked.setting.dtype)

    def in_a_model(states: Tensor) -> Tensor:
        return layer.attend(states, Memory(states, None, states[:, 0])).values

    systems = {BARE: bare, BLOCK: layer, f"{BLOCK}, in a model": in_a_model}
    for backward, passes in ((False, "forward"), (True, "forward_backward")):
        for shape, calls, turns in (((1, 2), 20, 300), ((batch, length), 1, 20 * asked.repeats)):
            states = torch.randn(*shape, dim).to(asked.setting.device, asked.setting.dtype).requires_grad_(backward)
            leaves = [states, *layer.parameters(), *bare.parameters()]
            grad = torch.randn_like(states).detach()
            made = {
                name: pass_through(lambda system=system, states=states: system(states), leaves, grad, backward)
                for name, system in systems.items()
            }
            medians, extra = paired(made, calls, turns, asked.setting)
            case = f"fixed cost {shape[0]}x{shape[1]}x{dim}{asked.setting.suffix}"
            for name, seconds in medians.items():
                record.add(case, name, f"{passes}_time", seconds * 1e6, "us")
                if name != BARE:
                    record.add(case, name, f"{passes}_beyond_bare", extra[name] * 1e6, "us")


def paired(
    calls: dict[str, Callable[[], Any]], times: int, turns: int, setting: Setting
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of a call, and the median of the differences from the first in the same turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 3):
        for name, call in calls.items():
            synchronise(setting)
            start = time.perf_counter()
            for _ in range(times):
                call()
            synchronise(setting)
            if turn >= 3:  # the first are warm-up
                seconds[name].append((time.perf_counter() - start) / times)
    first = next(iter(calls))
    differences = {
        name: statistics.median(mine - base for mine, base in zip(values, seconds[first], strict=True))
        for name, values in seconds.items()
    }
    return {name: statistics.median(values) for name, values in seconds.items()}, differences


def synchronise(setting: Setting) -> None:
    if setting.device != "cpu":
        torch.cuda.synchronize()


def additive(asked: Asked, record: Record) -> None:
    """The additive score against the dot product, both by the backend that any score has; peak memory."""
    length, batch = min(1024, max(asked.lengths)), 8
    for name, options in {
        "additive": {"score": "additive"},
        "dot product, reference": {"score": "scaled_dot", "backend": "reference"},
    }.items():
        core = OnHeads({"type": "soft", **options}).to(asked.setting.device, asked.setting.dtype)
        leaves = [
            tensor.detach().repeat(batch, 1, 1, 1).requires_grad_() for tensor in inputs("heads", length, asked.setting)
        ]
        grad = torch.randn_like(leaves[0]).detach()
        call = pass_through(lambda core=core, leaves=leaves: core(*leaves), [*leaves, *core.parameters()], grad, True)
        say(f"additive: {name}")
        peak = measure_memory(call, asked.setting.device).peak
        record.add(f"additive score {length}{asked.setting.suffix}", name, "peak_memory", peak / 2**20, "MB")


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


# The command


def main(argv: Sequence[str] | None = None) -> None:
    asked, jobs = read(argv)
    warnings.filterwarnings("ignore", module="torch.*|transformers.*|reformer_pytorch.*")
    record = Record(asked.page.with_suffix(".json"))
    for name, job in jobs.items():
        say(f"== {name}")
        try:
            job(asked, record)
        except Exception as error:  # what one job raises shall not cost the figures of the others
            say(f"{name} failed: {type(error).__name__}: {error}")
            record.left_out[name, "all"] = f"{type(error).__name__}: {error}"
            continue
        record.left_out.pop((name, "all"), None)
        record.ran(name + asked.setting.suffix, asked.setting.device, asked.repeats)
        record.save()
    write(record, asked.page)
    print(asked.page.read_text(encoding="utf-8"))


def read(argv: Sequence[str] | None) -> tuple[Asked, dict[str, Callable[[Asked, Record], None]]]:
    matches = {match.name: match for match in MATCHES}
    others = {"presets": presets, "fixed cost": fixed_cost, "additive": additive}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "jobs", nargs="*", help=f"some of: {', '.join([*matches, *others])}; none: all; page: write anew"
    )
    parser.add_argument("--lengths", type=int, nargs="+", help="instead of those of the targets")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved turns of each")
    parser.add_argument("--limit-s", type=float, default=60.0, help="what takes longer in one call is left out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as PyTorch has it")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page; .json and .png lie beside it")
    given = parser.parse_args(argv)
    setting = Setting(given.device, torch.float32 if given.device == "cpu" else torch.bfloat16)
    if given.threads:
        torch.set_num_threads(given.threads)
    asked = Asked(setting, given.lengths or LENGTHS[given.device], given.repeats, given.limit_s, given.page)
    unknown = set(given.jobs) - {*matches, *others, "page"}
    if unknown:
        parser.error(f"no such jobs: {', '.join(sorted(unknown))}")
    fitting = {name: match for name, match in matches.items() if match.only in ("", given.device)}
    jobs: dict[str, Callable[[Asked, Record], None]] = {
        name: lambda asked, record, match=match: race(match, asked, record) for name, match in fitting.items()
    }
    jobs |= others
    chosen = given.jobs or list(jobs)
    return asked, {name: jobs[name] for name in chosen if name in jobs}


if __name__ == "__main__":
    main()
