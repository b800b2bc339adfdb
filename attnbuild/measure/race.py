"""Seconds and bytes of several things over several lengths: interleaved, with medians, within a limit.

At each length every entrant takes its turn, again and again, so that whatever else the machine does falls
on all of them; the median of the turns counts. What would take longer than the limit, or more memory than
there is, is not begun: the next length is foretold from the ones before.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from attnbuild.errors import AttnbuildError
from attnbuild.measure.memory import available_memory, measure_memory

__all__ = ["Figures", "Race", "exponent"]

#: Makes, at a length, the call that is measured.
Maker = Callable[[int], Callable[[], Any]]

#: An entrant takes turns for about so many seconds, but at least LEAST turns.
_SECONDS_OF_TURNS, _LEAST = 15.0, 3

#: The share of the free memory that a call may take.
_SHARE = 0.8


@dataclass(frozen=True)
class Figures:
    """What one entrant took at one length.

    Attributes:
        seconds: the median of its turns; NaN where it did not run.
        peak: bytes beyond its inputs, at most.
        turns: how many the median is of.
        problem: why it did not run; empty where it did.
        failed: whether it broke, rather than being kept from running.
    """

    seconds: float = math.nan
    peak: int = 0
    turns: int = 0
    problem: str = ""
    failed: bool = False


@dataclass
class _Entry:
    """An entrant at the length at hand."""

    name: str
    call: Callable[[], Any]
    peak: int
    first: float
    seconds: list[float] = field(default_factory=list)


class Race:
    """Entrants over lengths.

    Args:
        entrants: name -> what makes its call at a length. The call runs the device's work to its end or leaves it
            queued; it must not keep what it makes.
        repeats: turns of each at each length; slow ones take fewer, three at least.
        limit_s: the longest that one call may take.
        device: where the calls run.
        tell: is given a line on each thing done.
    """

    def __init__(
        self,
        entrants: Mapping[str, Maker],
        *,
        repeats: int = 5,
        limit_s: float = 60.0,
        device: torch.device | str = "cpu",
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.entrants, self.repeats, self.limit_s = entrants, repeats, limit_s
        self.device, self.tell = torch.device(device), tell
        self.known: dict[str, dict[int, tuple[float, int]]] = {name: {} for name in entrants}
        self.figures: dict[tuple[str, int], Figures] = {}

    def run(self, lengths: Sequence[int]) -> dict[tuple[str, int], Figures]:
        """Race at each length, the shortest first; returns the figures by (name, length)."""
        for length in sorted(lengths):
            entries = [entry for name in self.entrants if (entry := self._enter(name, length)) is not None]
            self._take_turns(entries, length)
        return self.figures

    def _enter(self, name: str, length: int) -> _Entry | None:
        """Make the call, and run it twice: to be warm, and to see its memory."""
        try:
            if not self.known[name]:
                self._probe(name, length)
            problem = self._too_much(name, length)
            if problem:
                self._leave_out(name, length, problem)
                return None
            self.tell(f"{name} at {length}")
            call = self.entrants[name](length)
            first = self._time(call)
            peak = measure_memory(call, self.device).peak
        except AttnbuildError as error:
            self._leave_out(name, length, str(error))
            return None
        except Exception as error:  # whatever a mechanism may raise, the others still run
            lines = str(error).strip().splitlines() or [""]
            self._leave_out(name, length, f"{type(error).__name__}: {lines[0]}", failed=True)
            return None
        return _Entry(name, call, peak, first)

    def _leave_out(self, name: str, length: int, problem: str, failed: bool = False) -> None:
        self.tell(f"{name} at {length}: {problem}")
        self.figures[name, length] = Figures(problem=problem, failed=failed)

    def _take_turns(self, entries: list[_Entry], length: int) -> None:
        for turn in range(self.repeats):
            for entry in entries:
                if turn < max(_LEAST, _SECONDS_OF_TURNS / max(entry.first, 1e-9)):
                    entry.seconds.append(self._time(entry.call))
        for entry in entries:
            seconds = statistics.median(entry.seconds)
            self.figures[entry.name, length] = Figures(seconds, entry.peak, len(entry.seconds))
            self.known[entry.name][length] = seconds, entry.peak

    def _probe(self, name: str, length: int) -> None:
        """Shorter calls, so that the first length can be foretold; some things run at few lengths only."""
        for shorter in (length // 64, length // 16, length // 4):
            if shorter < 64 or self._too_much(name, shorter):
                continue
            with suppress(Exception):
                call = self.entrants[name](shorter)
                self._time(call)
                peak = measure_memory(call, self.device).peak
                self.known[name][shorter] = self._time(call), peak

    def _too_much(self, name: str, length: int) -> str:
        known = sorted(self.known[name].items())
        if not known:
            return ""
        seconds = _foretell([(at, seconds) for at, (seconds, _) in known], length)
        peak = _foretell([(at, peak) for at, (_, peak) in known], length)
        free = available_memory(self.device)
        if seconds > self.limit_s:
            return f"one call would take about {seconds:.0f} s, and the limit is {self.limit_s:g} s"
        if free is not None and peak > _SHARE * free:
            return f"it would take about {peak / 2**30:.1f} GB of memory, and {free / 2**30:.1f} GB are free"
        return ""

    def _time(self, call: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        result = call()
        self._wait()
        seconds = time.perf_counter() - start
        del result
        return seconds

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The p of a * x^p through points with x and y above 0, by least squares of logarithms; NaN for fewer than two."""
    logs = [(math.log(x), math.log(y)) for x, y in points if y > 0]
    if len(logs) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def _foretell(points: Sequence[tuple[int, float]], length: int) -> float:
    """What a further length takes, growing as between the last two (quadratically where there is one)."""
    at, value = points[-1]
    growth = exponent(points[-2:]) if len(points) > 1 else 2.0
    growth = 2.0 if math.isnan(growth) else min(max(growth, 1.0), 3.0)
    return value * (length / at) ** growth
