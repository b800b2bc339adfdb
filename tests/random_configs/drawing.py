"""Any configuration: what the registry and ``conf`` have, with most of it fitting together and now and then a slip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from attnbuild.attention import describe
from attnbuild.attention.presets import preset_names
from attnbuild.attention.spec import PART_DEFAULTS
from attnbuild.places import FALLBACK, presets_that_serve
from attnbuild.registry import Option, lookup, names, options_of
from attnbuild.sections import SECTIONS, Settings, Trainer
from tests.random_configs.values import beyond, inside
from tests.random_configs.words import PARTS, Words, default_type, known, load

__all__ = ["any_words", "embedded"]

#: Options of a section without a part that matter here; the rest is about machines, folders and pictures.
_SECTIONS = ("model", "batch", "image", "trainer")
_TRAINER = ("precision", "accumulate", "clip", "on_nan", "overfit_batches", "limit_eval_batches", "log_every")
_SETTINGS = ("average", "seed", "strict_places")

#: One draw in so many makes a slip.
_RARELY = 6


@st.composite
def any_words(draw: Any) -> Words:
    """The words of one config."""
    words: Words = {"task": draw(st.sampled_from(known().groups["task"]))}
    slips = draw(st.integers(0, 2 * _RARELY))
    slip = draw(st.sampled_from(_SLIPS)) if slips == 0 else ""
    _choose_parts(draw, words, misfit=slip == "misfit")
    _choose_attentions(draw, words, misfit=slip == "misfit")
    declared = _declared(words)
    for path, option in draw(
        _some([(path, option) for path, options in declared.items() for option in options.values()])
    ):
        words[f"{path}.{option.name}" if path else option.name] = draw(st.sampled_from(inside(option)))
    if slip and slip != "misfit":
        slip_into(draw, words, declared, slip)
    return words


#: A choice that does not fit the others, a value that is not allowed, a misspelt option or choice.
_SLIPS = ("misfit", "misfit", "value", "value", "option", "choice")


def slip_into(draw: Any, words: Words, declared: dict[str, dict[str, Option]], slip: str) -> None:
    """Spoil one of the words, or add one that is wrong."""
    if slip == "choice":
        group = draw(st.sampled_from(sorted(key for key in words if key in known().groups)))
        words[group] = draw(_misspelt(words[group]))
        return
    path = draw(st.sampled_from([path for path, options in declared.items() if options]))
    option = draw(st.sampled_from(list(declared[path].values())))
    name = option.name if slip == "value" else draw(_misspelt(option.name))
    prefix = f"{path}." if path else ""
    if slip == "option" and not prefix:
        return  # top-level keys are names, which Hydra's round finds
    words.pop(f"{prefix}{option.name}", None)
    words[f"{prefix}{name}"] = draw(st.sampled_from(beyond(option) if slip == "value" else inside(option)))


def _misspelt(name: str) -> st.SearchStrategy[str]:
    """With a letter left out, or twice."""
    places = st.integers(0, len(name) - 1)
    return st.one_of(
        places.map(lambda at: name[:at] + name[at + 1 :]),
        places.map(lambda at: name[:at] + name[at : at + 1] + name[at:]),
    )


def _some(options: Sequence[tuple[str, Option]]) -> st.SearchStrategy[list[tuple[str, Option]]]:
    return st.lists(st.sampled_from(options), max_size=8, unique_by=lambda pair: (pair[0], pair[1].name))


# Parts


def _choose_parts(draw: Any, words: Words, misfit: bool) -> None:
    for path, kind in PARTS.items():
        fitting = _fitting(kind, words)
        usual = default_type(words["task"], path)
        every = embedded(kind)
        chosen = draw(st.sampled_from([usual, *fitting] if usual in fitting else fitting))
        if misfit and draw(st.booleans()):
            chosen = draw(st.sampled_from(every))
        if chosen != usual:
            words[path if path in known().groups else f"{path}.type"] = chosen


@functools.cache
def embedded(kind: str) -> tuple[str, ...]:
    """The parts of a kind that have a file in ``conf`` and need none of the user's own."""
    parts = [name for name in names(kind) if name in known().groups.get(kind, [])]
    return tuple(name for name in parts if not {"root", "path"} & set(options_of(lookup(kind, name))))


def _fitting(kind: str, words: Words) -> list[str]:
    """Those that go with what was chosen already: the task, and what its data is."""
    task = lookup("task", words["task"])
    data = lookup("data", words.get("data", default_type(words["task"], "data")))
    fits = {
        "data": lambda part: task.answers in part.targets and part.source in task.modalities,
        "encoder": lambda part: data.source in part.reads,
        "decoder": lambda part: part.writes == task.writes,
        "search": lambda part: (part is lookup("search", "none")) == (task.writes == "labels"),
        "augmentation": lambda part: data.source == "image" or part is lookup("augmentation", "none"),
    }
    fit = fits.get(kind, lambda part: True)
    return [name for name in embedded(kind) if fit(lookup(kind, name))]


# Attentions


def _choose_attentions(draw: Any, words: Words, misfit: bool) -> None:
    words["attention"] = draw(st.sampled_from(preset_names()))
    for path, kind in _places(words).items():
        able = preset_names() if misfit else presets_that_serve_(kind)
        if draw(st.integers(0, 3)) == 0:
            words[path.replace(".", "/")] = draw(st.sampled_from(able))
        if draw(st.integers(0, 7)) == 0:
            words[f"{path}_by_layer"] = {0: draw(st.sampled_from(able))}
    if not misfit:
        _make_it_serve(draw, words)


def _make_it_serve(draw: Any, words: Words) -> None:
    """The root attention must serve a place that follows it; else another one is chosen."""
    following = [kind for path, kind in _places(words).items() if path.replace(".", "/") not in words]
    if following and not any(words["attention"] in presets_that_serve_(kind) for kind in following):
        words["attention"] = draw(
            st.sampled_from(sorted({name for kind in following for name in presets_that_serve_(kind)}))
        )


presets_that_serve_ = functools.cache(lambda kind: tuple(presets_that_serve(kind)))


def _places(words: Words) -> dict[str, Any]:
    """The places that the model has, as far as its options are known."""
    places = {}
    for part in ("encoder", "decoder"):
        chosen = words.get(part, default_type(words["task"], part))
        places |= {
            f"{part}.{name}": kind for name, kind in lookup(part, chosen).places_for(load(f"{part}/{chosen}")).items()
        }
    return places


# Options


def _declared(words: Words) -> dict[str, dict[str, Option]]:
    """Path of a section -> the options that it has, given what was chosen."""
    declared: dict[str, dict[str, Option]] = {"": {name: options_of(Settings)[name] for name in _SETTINGS}}
    declared |= {name: dict(options_of(SECTIONS[name])) for name in _SECTIONS}
    declared["trainer"] = {name: options_of(Trainer)[name] for name in _TRAINER}
    declared["task"] = dict(options_of(lookup("task", words["task"])))
    for path, kind in PARTS.items():
        chosen = words.get(path) or words.get(f"{path}.type") or default_type(words["task"], path)
        declared[path] = dict(options_of(lookup(kind, chosen)))
    declared["attention"] = _of_attention(words["attention"])
    for path, kind in _places(words).items():
        root = words["attention"] if words["attention"] in presets_that_serve_(kind) else FALLBACK
        declared[path] = _of_attention(words.get(path.replace(".", "/"), root))
    return declared


@functools.cache
def _of_attention(preset: str) -> dict[str, Option]:
    """Of all its parts; and the kinds of parts that it is made of, any of which may be another."""
    told = describe(preset)
    options = {
        item["name"]: Option(item["name"], item["type"], item["default"], item["help"]) for item in told["options"]
    }
    for kind in PART_DEFAULTS:
        if kind in told["parts"]:
            options[kind] = Option(kind, Literal[*names(kind)], told["parts"][kind], "")
    return options
