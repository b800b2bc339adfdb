"""Trainings that are killed again and again, and go on: results/faults.{md,json}.

    python benchmarks/faults.py                    # 50 kills
    python benchmarks/faults.py --kills 5 --no-page

A run is trained twice: once undisturbed, once killed with SIGKILL at random moments (a fixed seed draws them)
and resumed each time by `attnbuild train resume=RUN`, with no other help. A kill is survived when

- the command that was killed leaves no process behind, and the run a whole checkpoint or none;
- that checkpoint is the last one that training went beyond;
- resuming works, and ends in the very bits of the undisturbed run: weights, optimiser, metrics, every value logged.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parent / "results" / "faults.md"
WANTED = 50
EVERY, STEPS = 6, 36

#: Seconds after which a command hangs, however busy the machine is.
PATIENCE = 600

SMALL = (
    *("model.dim=16", "validation.samples=1", "validation.maps=0", "trainer.threads=1", "trainer.log_every=1"),
    *(f"validation.every={EVERY}", f"trainer.max_steps={STEPS}", "search=greedy", "logger.tensorboard=null"),
)
TEXT = (
    *("data.train=120", "data.validation=20", "data.test=10", "tokenizer.vocab_size=300", "batch.tokens=256"),
    *("encoder.layers=1", "encoder.feedforward=32", "decoder.layers=1", "decoder.feedforward=32"),
)
IMAGES = (
    *("encoder.width=8", "encoder.blocks=[1,1]", "image.channels=1", "augmentation=standard", "augmentation.crop=1"),
    "batch.rows=8",
)

#: What is typed after ``attnbuild train``, and how the killed are chosen.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "translation": ((*SMALL, *TEXT, "average=best5"), ("step", "validation", "checkpoint")),
    "translation, 2 processes": (
        (*SMALL, *TEXT, "average=none", "trainer=ddp_sim"),
        ("rank", "parent"),
    ),
    "captioning": (
        (
            *(*SMALL, *IMAGES, "task=captioning", "recipe=show_attend_tell_hard", "image.size=32", "average=last5"),
            *("data.train=40", "data.validation=6", "data.test=7"),
        ),
        ("step", "validation", "checkpoint"),
    ),
    "classification": (
        (*SMALL[:-2], *IMAGES, "task=classification", "image.size=8", "task.mixup=0.2", "average=ema", SMALL[-1]),
        ("step", "validation", "checkpoint"),
    ),
}

#: Of ten kills, how many hit each case.
SHARES = {"translation": 3, "translation, 2 processes": 2, "captioning": 2, "classification": 3}


@dataclass
class Kill:
    """One kill.

    Attributes:
        case: what was trained.
        where: what was killed, or in the middle of what.
        step: the update that had been logged last.
        left: the update of the checkpoint that was left; 0: there was none yet.
        fault: what went wrong, the first only; empty: nothing.
    """

    case: str
    where: str
    step: int
    left: int
    fault: str = ""


@dataclass
class Victim:
    """A run that is killed and resumed until it ends.

    Attributes:
        case: what is trained.
        folder: the working directory.
        draw: decides about moments.
        kills: that it took so far.
    """

    case: str
    folder: Path
    draw: random.Random
    kills: list[Kill] = field(default_factory=list)

    def live(self, whole: Path, plan: list[str]) -> bool:
        """Train, taking the kills of the plan one after the other; whether it came to an end as it should.

        A kill whose moment does not come before the run ends stays in the plan.
        """
        words: tuple[str, ...] = CASES[self.case][0]
        while True:
            self._remember()
            process = start(self.folder, words)
            struck = self._strike(process, plan[0]) if plan else None
            code = process.wait(timeout=PATIENCE)
            words = (f"resume={self.run}",) if self.run else words
            if struck is None:
                break
            plan.pop(0)
            self.kills.append(struck)
            struck.fault = struck.fault or self._left_behind(struck, code)
        fault = self._ended(code, whole)
        if fault and self.kills:
            for kill in self.kills:
                kill.fault = kill.fault or fault
        return not fault

    @property
    def run(self) -> Path | None:
        """The run folder, once it has a config."""
        return next((path.parent for path in self.folder.glob("outputs/*/*/*/config.yaml")), None)

    def _remember(self) -> None:
        """What an earlier attempt left, so that it is not taken for the work of the next."""
        self.lying = drafts_of(self.run) if self.run else set()
        self.file = identity(self.run / "metrics.csv") if self.run else None

    def _strike(self, process: subprocess.Popen[bytes], where: str) -> Kill | None:
        """Wait for the moment and kill; None where the run ended before."""
        begun = 0 if self.run is None else saved_step(self.run)
        target = begun + self.draw.randint(1, EVERY + 2)
        delay = self.draw.random() * 0.05
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return None
            run = self.run
            if run is not None and self._is_moment(run, where, target, begun):
                if where == "validation":
                    time.sleep(delay)
                victims = ranks_of(run)
                victim = self.draw.choice(victims) if where == "rank" and victims else process.pid
                name = f"rank {victims.index(victim)}" if victim in victims else where
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    return None
                process.wait(timeout=PATIENCE)
                return Kill(self.case, name, step_of(run), saved_step(run))
            time.sleep(0.0005)
        raise SystemExit(f"{self.case}: hangs, see {self.folder}")

    def _is_moment(self, run: Path, where: str, target: int, begun: int) -> bool:
        if where == "checkpoint":
            return bool(drafts_of(run) - self.lying) and self.draw.random() < 0.3
        if identity(run / "metrics.csv") == self.file:
            return False  # the rows are of an earlier attempt, and some will be dropped
        step = step_of(run)
        if where == "validation":
            return step > begun and step % EVERY == 0 and last_metric(run).startswith("train/")
        if where in ("rank", "parent") and len(ranks_of(run)) < 2:
            return False
        return step >= target

    def _left_behind(self, kill: Kill, code: int) -> str:
        """What is wrong right after a kill; empty: nothing."""
        run = self.run
        assert run is not None
        if kill.where.startswith("rank"):
            said = (self.folder / "output.txt").read_text(encoding="utf-8").strip().splitlines()
            if code != 1 or kill.where not in said[-1] or "SIGKILL" not in said[-1]:
                return f"exit code {code}, and it said: {said[-1]}"
            if any("Traceback" in line for line in said):
                return "a traceback beside the message"
        gone = time.monotonic() + 30
        while ranks_of(run):
            if time.monotonic() > gone:
                return f"processes are left: {ranks_of(run)}"
            time.sleep(0.1)
        # Training went beyond a validation only after its checkpoint was written.
        if kill.left < (kill.step - 1) // EVERY * EVERY:
            return f"killed at step {kill.step}, and the checkpoint is of step {kill.left}"
        return ""

    def _ended(self, code: int, whole: Path) -> str:
        run = self.run
        if code or run is None:
            return f"exit code {code}: {(self.folder / 'output.txt').read_text(encoding='utf-8')[-500:]}"
        return difference(run, whole)


def start(folder: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Train; what it says is in ``output.txt``."""
    with (folder / "output.txt").open("wb") as output:
        command = [sys.executable, "-m", "attnbuild", "train", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def train_whole(case: str, folder: Path) -> Path:
    """The run that nothing disturbs."""
    folder.mkdir(parents=True)
    code = start(folder, CASES[case][0]).wait(timeout=PATIENCE)
    if code:
        raise SystemExit(f"{case}: exit code {code}:\n{(folder / 'output.txt').read_text(encoding='utf-8')}")
    return next(folder.glob("outputs/*/*/*"))


def logged(run: Path) -> list[list[str]]:
    """Step, metric and value of the whole rows of metrics.csv."""
    try:
        text = (run / "metrics.csv").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [row[:3] for row in csv.reader(text[: text.rfind("\n") + 1].splitlines())][1:]


def step_of(run: Path) -> int:
    """The update that was logged last."""
    rows = logged(run)
    return int(rows[-1][0]) if rows else 0


def last_metric(run: Path) -> str:
    rows = logged(run)
    return rows[-1][1] if rows else ""


def identity(path: Path) -> int | None:
    """Changes when a file is written anew."""
    return path.stat().st_ino if path.is_file() else None


def drafts_of(run: Path) -> set[str]:
    """Checkpoints that are being written, or were when somebody killed the writer."""
    return {path.name for path in (run / "checkpoints").glob(".*.ckpt-*")}


def saved_step(run: Path) -> int:
    """The update of the last checkpoint, which must be whole; 0 where there is none."""
    path = run / "checkpoints" / "last.ckpt"
    return int(torch.load(path, weights_only=True)["global_step"]) if path.is_file() else 0


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def ranks_of(run: Path) -> list[int]:
    """The ranks that train a run folder, in their order."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if b"attnbuild.training.rank" in words and os.fsencode(run) in words:
                variables = dict(
                    item.partition(b"=")[::2] for item in (path.parent / "environ").read_bytes().split(b"\0")
                )
                found[int(variables[b"RANK"])] = int(path.parent.name)
        except (OSError, KeyError):
            continue  # it is about to begin or to end
    return [found[number] for number in sorted(found)]


def difference(run: Path, whole: Path) -> str:
    """The first thing in which a run is not the undisturbed one; empty: it is."""
    ours, theirs = read_json(run / "summary.json"), read_json(whole / "summary.json")
    if ours["status"] != "ok" or ours["metrics"] != theirs["metrics"]:
        return f"metrics {ours['metrics']}, not {theirs['metrics']}"
    rows, expected = ([row for row in logged(path) if "per_second" not in row[1]] for path in (run, whole))
    if rows != expected:
        return (
            f"metrics.csv: {next((pair for pair in zip(rows, expected, strict=False) if pair[0] != pair[1]), 'length')}"
        )
    for name in ("last.ckpt", "best.ckpt", *(path.name for path in whole.glob("checkpoints/step-*.ckpt"))):
        ours, theirs = (torch.load(path / "checkpoints" / name, weights_only=True) for path in (run, whole))
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            if not same(ours.get(part), theirs.get(part)):
                return f"{name}: {part} is another"
    drafts = [str(path) for path in run.rglob(".*-????????") if path.is_file()]
    return f"left lying: {drafts}" if drafts else ""


def same(one: Any, other: Any) -> bool:
    """Whether two nests of values are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def campaign(kills: int, seed: int, folder: Path, say: Callable[[str], None] = print) -> list[Kill]:
    """Kill so many times.

    Args:
        kills: how many.
        seed: of the moments.
        folder: for the runs.
        say: is told of each kill.
    """
    done: list[Kill] = []
    for number, (case, share) in enumerate(shares(kills)):
        draw = random.Random(f"{seed} {case}")
        whole = train_whole(case, folder / f"{number}-whole")
        kinds = CASES[case][1]
        plan = [kinds[place % len(kinds)] for place in range(share)]
        draw.shuffle(plan)
        attempt = 0
        while plan:
            attempt += 1
            victim = Victim(case, folder / f"{number}-{attempt}", draw)
            victim.folder.mkdir()
            victim.live(whole, plan)
            for kill in victim.kills:
                say(f"{kill.case}: killed ({kill.where}) after step {kill.step}, {kill.fault or 'survived'}")
            done += victim.kills
            if attempt > 3 * share + 3:
                raise SystemExit(f"{case}: the moments {plan} do not come")
    return done


def shares(kills: int) -> Iterator[tuple[str, int]]:
    """How many of the kills each case gets."""
    left = kills
    for place, (case, share) in enumerate(SHARES.items()):
        part = left if place == len(SHARES) - 1 else min(left, max(1, round(kills * share / sum(SHARES.values()))))
        left -= part
        if part:
            yield case, part


def write(kills: list[Kill], seed: int, seconds: float) -> None:
    """The page and its figures."""
    survived = sum(not kill.fault for kill in kills)
    case = f"SIGKILL at random moments, seed {seed}; fp32 on the CPU"
    rows = [
        {
            "case": case,
            "system": "attnbuild",
            "metric": "survived",
            "value": survived,
            "wanted": len(kills),
            "unit": "kills",
        }
    ]
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    record = {"rows": rows, "kills": [vars(kill) for kill in kills], "minutes": seconds / 60, "versions": versions}
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text("\n".join(page(kills, seed, seconds, versions)) + "\n", encoding="utf-8")


def page(kills: list[Kill], seed: int, seconds: float, versions: dict[str, str]) -> list[str]:
    survived = sum(not kill.fault for kill in kills)
    counts = Counter((kill.case, kill.where) for kill in kills)
    good = Counter((kill.case, kill.where) for kill in kills if not kill.fault)
    faults = [f"- {kill.case}, {kill.where}, after step {kill.step}: {kill.fault}" for kill in kills if kill.fault]
    return [
        "# Killed and resumed",
        "",
        f"Written by `benchmarks/faults.py`. **{survived} of {len(kills)} kills survived.**",
        "",
        *[line.strip() for line in str(__doc__).split("\n\n", 2)[2].splitlines()],
        "",
        f"Runs of {STEPS} updates with a checkpoint every {EVERY}; several kills each; moments drawn with seed {seed}.",
        "",
        "| trained | killed in | kills | survived |",
        "|---|---|---|---|",
        *(f"| {case} | {where} | {count} | {good[case, where]} |" for (case, where), count in sorted(counts.items())),
        "",
        *(["What went wrong:", "", *faults, ""] if faults else []),
        f"{seconds / 60:.1f} minutes; {', '.join(map(' '.join, versions.items()))}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=WANTED)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-page", action="store_true", help="write no results")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ.setdefault("ATTNBUILD_CACHE", f"{folder}/cache")
        kills = campaign(given.kills, given.seed, Path(folder), lambda text: print(text, flush=True))
    survived = sum(not kill.fault for kill in kills)
    print(f"survived {survived} of {len(kills)} in {time.monotonic() - began:.0f} s")
    if not given.no_page:
        write(kills, given.seed, time.monotonic() - began)
    raise SystemExit(survived != len(kills))


if __name__ == "__main__":
    main()
