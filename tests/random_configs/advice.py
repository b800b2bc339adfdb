"""What a user does with a refusal: reads what each message says to do instead, and does it.

All messages say it in one of a few forms, and this knows nothing but the forms:

    set KEY=VALUE [and KEY=VALUE] [, or KEY=VALUE]     a key without a dot stands beside the one that is wrong
    set it to VALUE [or less | or more]                of the key that is wrong
    choose A [or B]; did you mean 'A'?; one of: A, B; ... that fit: A, B; ... presets: A, B
    leave it out
    raise KEY | lower KEY                              where no number is known: twice as much, half
    input should be ...                                the ranges and types of options
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from attnbuild.errors import AttnbuildError, ConfigError, Problem
from tests.random_configs.drawing import embedded
from tests.random_configs.words import PARTS, Words, known, value_at

__all__ = ["UnreadableError", "followed"]

#: A way out: what is set, and what is left out (None).
_Change = dict[str, Any]

_LEFT_OUT = object()
_KEY = r"[a-z][\w./]*"
_ASSIGNMENT = re.compile(rf"({_KEY})=(\[[^\]]*\]|\{{[^}}]*\}}|[^\s,;:()]+)((?: \| \w+)*)")
_ALTERNATIVES = re.compile(r",? or (?!more|less)")
_NAMES = re.compile(r"(?:one of|that fit|that can|presets|of the presets?):\s*([\w, \n-]+)")
_QUOTED = re.compile(r"'([^']+)'")


class UnreadableError(AssertionError):
    """A message that does not say what to do instead."""


def followed(words: Words, error: AttnbuildError, tried: Counter[str]) -> Words:
    """The words as changed by who follows the advice of an error.

    Args:
        words: what was typed.
        error: what was said.
        tried: what was said -> how often its advice was followed; then its next alternative is taken. Counts on.

    Raises:
        UnreadableError: it does not say what to do.
    """
    words = dict(words)
    problems = error.problems if isinstance(error, ConfigError) else [Problem("", str(error))]
    for problem in problems:
        ways = [way for way in _ways(problem, words) if _is_at_hand(way)]
        if not ways:
            raise UnreadableError(f"{problem}\n  does not say what to do instead")
        change = ways[min(tried[str(problem)], len(ways) - 1)]
        tried[str(problem)] += 1
        for path, value in change.items():
            _apply(words, path, value)
    return words


def _ways(problem: Problem, words: Words) -> Iterator[_Change]:
    """The alternatives of a message, in its order."""
    path, message = problem.path, problem.message
    verb = re.search(r"\b(set|choose|raise|lower|leave) ", message)
    advice = message[verb.start() :] if verb else ""
    if not path:  # of data: only whole paths can be meant
        yield from _assigned(advice, path)
        return
    if message.startswith("unknown option"):
        near = re.search(r"did you mean (.*)\?", message)
        beside = path.rpartition(".")[0]
        for name in _QUOTED.findall(near[1]) if near else ():
            yield {path: _LEFT_OUT, f"{beside}.{name}": value_at(words, path)}
        yield {path: _LEFT_OUT}
        return
    if found := re.search(r"did you mean (.*)\?", message):
        yield from ({path: name} for name in _QUOTED.findall(found[1]))
    if "input should be" in message:
        yield from ({path: value} for value in _expected(message))
    yield from _assigned(advice, path)
    yield from _chosen(advice, path)
    for verb, factor in (("raise", 2), ("lower", 0.5)):
        if found := re.search(rf"\b{verb} ({_KEY})", message):
            key = path if found[1] == "it" else _beside(found[1], path)
            yield {key: max(1, int(value_at(words, key) * factor))}
    if found := _NAMES.search(message):
        yield from ({path: name.strip()} for name in found[1].split(","))
    if "leave it out" in message or "leave out" in advice:
        yield {path: _LEFT_OUT}


def _is_at_hand(change: _Change) -> bool:
    """Whether it chooses no part that needs files."""
    groups = {_group(path): value for path, value in change.items() if _group(path) in PARTS}
    return all(value is _LEFT_OUT or value in embedded(PARTS[group]) for group, value in groups.items() if group)


def _assigned(advice: str, path: str) -> Iterator[_Change]:
    for way in _ALTERNATIVES.split(advice):
        found = _ASSIGNMENT.findall(way)
        if not found:
            continue
        yield {_beside(key, path): yaml.safe_load(value) for key, value, _ in found}
        key, _, others = found[-1]
        yield from ({_beside(key, path): yaml.safe_load(value)} for value in others.split(" | ")[1:])


def _chosen(advice: str, path: str) -> Iterator[_Change]:
    """``set it to 3``, ``choose 3 or 4``, ``choose 'mean'``."""
    if found := re.search(r"set it to (\[[^\]]*\]|[^\s,;()]+)", advice):
        yield {path: yaml.safe_load(found[1])}
    if found := re.search(r"choose ((?:'?[\w.-]+'?(?:, or |, | or )?)+)", advice):
        names = re.split(r",? or |, ", found[1])
        yield from (
            {path: yaml.safe_load(name.strip("'"))}
            for name in names
            if name and "=" not in name and " " not in name.strip()
        )


def _expected(message: str) -> Iterator[Any]:
    """Values of the range or type that was expected."""
    whole = "integer" in message
    if found := re.search(r"(greater|less) than( or equal to)? (-?[\d.e-]+)", message):
        limit = float(found[3])
        value = limit if found[2] else limit + (0.1 if found[1] == "greater" else -0.1)
        yield int(value) if value.is_integer() else value
    if found := re.search(r"should be ((?:'[^']+'|\d+)(?:(?:, | or )(?:'[^']+'|\d+))*)", message):
        yield yaml.safe_load(re.split(", | or ", found[1])[0].strip("'"))
    kinds = {
        "integer": 1,
        "number": 0.5,
        "boolean": True,
        "dictionary": {},
        "list": [1],
        "None": None,
        "string": "none",
    }
    yield from (
        value for kind, value in kinds.items() if f"valid {kind}" in message or (kind == "None" and kind in message)
    )
    if whole:
        yield 1
    if "finite number" in message:
        yield 0.5


def _beside(key: str, path: str) -> str:
    """The whole path of a key: one that is neither a path nor a group stands beside the option at ``path``."""
    if "." in key or key in known().groups:
        return key
    return f"{path.rpartition('.')[0]}.{key}"


def _apply(words: Words, path: str, value: Any) -> None:
    """Set a word, or take it out. A choice that is made anew takes the options of the one before with it."""
    group = _group(path)
    if group is not None and value is not _LEFT_OUT:
        section = group.replace("/", ".")
        for word in [word for word in words if word.startswith(f"{section}.") and _group(word) is None]:
            if not re.fullmatch(r"(encoder|decoder)\.\w*attention.*", word) or "/" in group:
                del words[word]
        words[group] = value
        return
    by_layer = re.fullmatch(r"(.*_by_layer)\.(\d+)(\..*)?", path)
    if by_layer and by_layer[3] is None:
        place, layer = by_layer[1], int(by_layer[2])
        words[place] = {**words.get(place, {}), layer: value}
        if value is _LEFT_OUT:
            del words[place][layer]
        return
    if by_layer:
        place, layer = by_layer[1], int(by_layer[2])
        words[place] = {**words[place], layer: _with_option(words[place][layer], by_layer[3][1:], value)}
        return
    for word in [
        word
        for word in words
        if word == path or word.startswith(f"{path}.") or (value is _LEFT_OUT and word == path.replace(".", "/"))
    ]:
        del words[word]
    if value is not _LEFT_OUT:
        words[path] = value


def _with_option(chosen: Any, name: str, value: Any) -> dict[str, Any]:
    """A preset as a mapping, with an option set or left out."""
    from attnbuild.attention.presets import load_preset

    options = load_preset(chosen) if isinstance(chosen, str) else dict(chosen)
    options.pop(name, None)
    return options if value is _LEFT_OUT else {**options, name: value}


def _group(path: str) -> str | None:
    """The group that chooses what a path names: ``data.type``, ``decoder.cross_attention``, ``encoder``."""
    group = path.removesuffix(".type").replace(".", "/")
    return group if group in known().groups else None
