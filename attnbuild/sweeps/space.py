"""What a sweep may choose: its dimensions, in Hydra's grammar of ``-m``.

    attention=bahdanau,multihead                choices
    seed=range(1,6)                             numbers in steps
    optimizer.lr=tag(log,interval(1e-4,1e-2))   anything between, even in the logarithm
    model.dim=int(interval(64,256))             whole numbers between

A file in ``conf/sweep/`` holds the same under ``space``, where a dimension may have a condition:

    space:
      attention: choice(multihead, window)
      attention.window: {values: "range(4,65,4)", when: {attention: window}}
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from attnbuild.errors import ConfigError, Problem, did_you_mean

__all__ = [
    "Dimension",
    "Interval",
    "all_combinations",
    "as_words",
    "combinations",
    "conditions_in",
    "dimension",
    "draw",
    "narrowed",
    "require_possible",
    "require_whole",
    "some_combinations",
    "text_of",
]

#: Whole numbers in an interval, and combinations in a space, up to which all of them are gone through.
_MOST = 10_000


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        low: the smallest.
        high: the largest.
        integer: whole numbers only.
        log: drawn evenly in the logarithm.
    """

    low: float
    high: float
    integer: bool = False
    log: bool = False

    def text(self, value: float) -> str:
        """A number as a value in a command: of six digits, within the interval, and read again as the same number."""
        return str(self.number(value))

    def number(self, value: float) -> int | float:
        """The number that ``text`` writes down."""
        short = round(value) if self.integer else float(f"{value:.6g}")
        kept = min(max(short, self.low), self.high)
        return int(kept) if self.integer else kept

    def draw(self, generator: random.Random) -> str:
        """A value, all of the interval being equally likely, or all of its logarithm."""
        # A whole number stands for half a step to each side, so that the ends are as likely as the others.
        margin = 0.5 if self.integer else 0.0
        low, high = self.low - margin, self.high + margin
        value = math.exp(generator.uniform(math.log(low), math.log(high))) if self.log else generator.uniform(low, high)
        return self.text(value)

    def holds(self, text: str) -> bool:
        """Whether a value in a command is one of it."""
        try:
            value = float(text)
        except ValueError:
            return False
        return self.low <= value <= self.high and (value.is_integer() or not self.integer)


@dataclass(frozen=True)
class Dimension:
    """One key that differs between jobs.

    Attributes:
        key: as typed: ``attention``, ``decoder/cross_attention``, ``optimizer.lr``.
        values: as typed after the ``=``; all there are, or the numbers between which any will do.
        prefix: what the key has before it where Hydra shall set it whatever it was: ``++``.
        when: other key -> values; the dimension is there only where all of them are so.
    """

    key: str
    values: tuple[str, ...] | Interval
    prefix: str = ""
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def word(self, value: str) -> str:
        """The override that chooses a value."""
        return f"{self.prefix}{self.key}={value}"

    def holds(self, chosen: Mapping[str, str]) -> bool:
        """Whether the dimension is there, given the values of those before it."""
        return all(chosen.get(key) in values for key, values in self.when.items())

    def choices(self) -> tuple[str, ...]:
        """Its values; of an interval, both ends."""
        if isinstance(self.values, Interval):
            return self.values.text(self.values.low), self.values.text(self.values.high)
        return self.values

    def has(self, value: str) -> bool:
        """Whether a value as typed is one of its values."""
        return self.values.holds(value) if isinstance(self.values, Interval) else value in self.values

    def draw(self, generator: random.Random) -> str:
        """One of its values."""
        return self.values.draw(generator) if isinstance(self.values, Interval) else generator.choice(self.values)

    def listed(self) -> Dimension:
        """The same with every value written down, where there are not too many; itself otherwise."""
        within = self.values
        if not isinstance(within, Interval) or not within.integer or within.high - within.low >= _MOST:
            return self
        return replace(self, values=tuple(map(str, range(int(within.low), int(within.high) + 1))))


def dimension(override: Override, when: Mapping[str, tuple[str, ...]]) -> Dimension:
    """The dimension that an override with several values stands for.

    Raises:
        ConfigError: an interval is empty, or cannot be drawn from in the logarithm.
    """
    key = override.key_or_group
    text = override.input_line or ""
    prefix = text[: len(text) - len(text.lstrip("+"))]
    value = override.value()
    if isinstance(value, IntervalSweep):
        return Dimension(key, _interval(key, value), prefix, when)
    return Dimension(key, tuple(dict.fromkeys(override.sweep_string_iterator())), prefix, when)


def _interval(key: str, sweep: IntervalSweep) -> Interval:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    log = "log" in sweep.tags
    if low >= high:
        raise ConfigError(f"interval({low},{high}) is empty: the first number is the smallest", key)
    if log and low <= 0:
        raise ConfigError(
            f"interval({low},{high}) cannot be drawn from in the logarithm: both ends must be above 0", key
        )
    return Interval(float(low), float(high), isinstance(low, int) and isinstance(high, int), log)


def combinations(dimensions: Sequence[Dimension]) -> Iterator[dict[str, str]]:
    """Every combination of the values, the last key changing fastest; of an interval, with both of its ends.

    A dimension with a condition multiplies only those combinations for which it holds.
    """
    return _longer({}, list(dimensions))


def _longer(chosen: dict[str, str], rest: list[Dimension]) -> Iterator[dict[str, str]]:
    if not rest:
        yield chosen
        return
    first, *others = rest
    if not first.holds(chosen):
        yield from _longer(chosen, others)
        return
    for value in first.choices():
        yield from _longer({**chosen, first.key: value}, others)


def all_combinations(dimensions: Sequence[Dimension]) -> list[dict[str, str]] | None:
    """Every combination there can be; None where there is no end of them, or none in sight."""
    listed = [each.listed() for each in dimensions]
    if any(isinstance(each.values, Interval) for each in listed):
        return None
    found = list(itertools.islice(combinations(listed), _MOST + 1))
    return found if len(found) <= _MOST else None


def some_combinations(dimensions: Sequence[Dimension], most: int) -> list[dict[str, str]]:
    """Combinations that stand for all, intervals by their ends: all of them where there are at most so many.

    Otherwise each value comes once beside the first values of the others, and the rest are drawn.
    """
    first = list(itertools.islice(combinations(dimensions), most + 1))
    if len(first) <= most:
        return first
    ends = [replace(each, values=each.choices()) for each in dimensions]
    found = [_with_value(ends, *pair) for pair in ((each.key, value) for each in ends for value in each.choices())]
    generator = random.Random(0)
    found += (draw(ends, generator) for _ in range(most))
    return list({tuple(chosen.items()): chosen for chosen in found}.values())[:most]


def _with_value(dimensions: Sequence[Dimension], key: str, value: str) -> dict[str, str]:
    """A combination with that value: what its conditions ask for, and the first of all other values."""
    asked = {key: value}
    for each in reversed(dimensions):
        if each.key in asked:
            asked = {**{other: values[0] for other, values in each.when.items()}, **asked}
    chosen: dict[str, str] = {}
    for each in dimensions:
        if each.holds(chosen):
            chosen[each.key] = asked.get(each.key, each.choices()[0])
    return chosen


def draw(dimensions: Sequence[Dimension], generator: random.Random) -> dict[str, str]:
    """A combination by chance: each dimension that is there has all of its values equally likely."""
    chosen: dict[str, str] = {}
    for each in dimensions:
        if each.holds(chosen):
            chosen[each.key] = each.draw(generator)
    return chosen


def as_words(space: Mapping[str, Any]) -> list[str]:
    """The overrides that a space stands for, conditions left out."""
    return [f"{key}={_text(entry)}" for key, entry in space.items() if entry is not None]


def _text(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = entry.get("values")
    if isinstance(entry, list):
        values = ",".join(_quoted(value) for value in entry)
        return values if len(entry) > 1 else f"choice({values})"  # choice(...) takes no null
    return _quoted(entry) if entry is None or isinstance(entry, bool) else str(entry)


def _quoted(value: Any) -> str:
    """A YAML value in Hydra's grammar."""
    return value if isinstance(value, str) and value.replace("_", "").isalnum() else json.dumps(value)


def conditions_in(space: Mapping[str, Any], origin: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """The conditions of a space: key -> other key -> values.

    Args:
        space: key -> values, or ``{values, when}``; from the config.
        origin: where the space stands, for messages.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems, conditions = [], {}
    for key, entry in space.items():
        if not isinstance(entry, dict):
            continue
        for name in entry.keys() - {"values", "when"}:
            message = f"unknown option {name!r}; {did_you_mean(name, ('values', 'when'))}"
            problems.append(Problem(f"sweep.space.{key}", message, origin))
        if "values" not in entry:
            problems.append(Problem(f"sweep.space.{key}", "needs values: {values: 'choice(1,2)', when: ...}", origin))
        when = entry.get("when") or {}
        if not isinstance(when, dict):
            problems.append(Problem(f"sweep.space.{key}", "when: expected {other key: value or [values]}", origin))
            continue
        earlier = list(space)[: list(space).index(key)]
        for other in when:
            if other not in earlier:
                hint = "move it there" if other in space and other != key else did_you_mean(other, earlier)
                message = f"when: {other!r} must be a key of the space before this one; {hint}"
                problems.append(Problem(f"sweep.space.{key}", message, origin))
        conditions[key] = {other: _as_texts(value) for other, value in when.items()}
    if problems:
        raise ConfigError(problems)
    return conditions


def _as_texts(value: Any) -> tuple[str, ...]:
    """YAML values as they are in a combination, where Hydra has read and written them."""
    values = value if isinstance(value, list) else [value]
    return tuple(text_of(item) for item in values)


def text_of(value: Any) -> str:
    """A value as it stands in a combination."""
    # A second value makes it a choice.
    override = OverridesParser.create().parse_override(f"key={_quoted(value)},_")
    return next(iter(override.sweep_string_iterator()))


def narrowed(
    space: Mapping[str, Any], conditions: Mapping[str, Mapping[str, tuple[str, ...]]], given: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, tuple[str, ...]]]]:
    """A space and its conditions where some of its keys have one value for all jobs, as typed.

    Those keys are no longer chosen, and what depends on them is there always, or never.

    Args:
        space: key -> values, or ``{values, when}``.
        conditions: from ``conditions_in``.
        given: key -> value.
    """
    kept = {
        key: entry
        for key, entry in space.items()
        if key not in given
        and all(given.get(other, values[0]) in values for other, values in conditions.get(key, {}).items())
    }
    left = {
        key: {other: values for other, values in conditions[key].items() if other not in given}
        for key in kept
        if key in conditions
    }
    # What depends on a key that is never there is never there either.
    gone = [key for key in kept if any(other not in kept for other in left.get(key, ()))]
    if gone:
        return narrowed({key: entry for key, entry in kept.items() if key not in gone}, left, {})
    return kept, left


def require_possible(dimensions: Sequence[Dimension], typed: Iterable[str], origin: str) -> None:
    """Refuse conditions that cannot come true.

    Args:
        dimensions: all of them.
        typed: keys whose values were typed anew; a file's conditions may then ask for values that were left out.
        origin: where the conditions stand, for messages.

    Raises:
        ConfigError: a condition asks for a value that its key never has.
    """
    by_key = {each.key: each for each in dimensions if each.key not in set(typed)}
    problems = [
        Problem(f"sweep.space.{each.key}", message, origin)
        for each in dimensions
        for other, values in each.when.items()
        if other in by_key
        for message in _impossible(by_key[other], values)
    ]
    if problems:
        raise ConfigError(problems)


def _impossible(other: Dimension, values: Iterable[str]) -> list[str]:
    if isinstance(other.values, Interval):
        return [f"when: {other.key!r} is an interval; a condition needs a key that has single values"]
    return [
        f"when: {other.key!r} is never {value!r}; {did_you_mean(value, other.values)}"
        for value in values
        if value not in other.values
    ]


def require_whole(dimensions: Iterable[Dimension], sweeper: str) -> None:
    """Refuse intervals where every combination is wanted.

    Raises:
        ConfigError: a dimension is an interval.
    """
    problems = [
        Problem(
            each.key,
            f"an interval has no end of values for sweeper={sweeper}; give values, or sweeper=random or optuna",
        )
        for each in dimensions
        if isinstance(each.values, Interval)
    ]
    if problems:
        raise ConfigError(problems)
