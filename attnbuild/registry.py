"""Names to parts. The constructor of a part is the schema of its options.

``@register("core", "linformer")`` puts a class (or a function) under a name. Its first parameter,
``place``, is what the builder knows; its keyword-only parameters are the user's options, with type,
default and range (``Annotated[int, Ge(1)]``) in the signature and one line of help in the docstring.
There is no second schema: validation, ``attnbuild list`` and the docs are made from the signature.

A config holds registry names only, never a Python path to import, so a config or a checkpoint from
a stranger can choose among registered parts and run nothing else.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar, get_type_hints

from attnbuild.errors import ConfigError, Problem, did_you_mean

__all__ = [
    "KINDS",
    "Option",
    "build",
    "check_options",
    "check_part",
    "load_plugins",
    "lookup",
    "names",
    "options_of",
    "register",
    "summary_of",
]

Part = TypeVar("Part", bound=Callable[..., Any])

#: kind -> the module or package whose files register it. A package's files are all imported, so a
#: new part is one new file. Tasks are only ever plugins, the built-in ones included.
KINDS: dict[str, str | None] = {
    "core": "attnbuild.attention.core",
    "score": "attnbuild.attention.scores",
    "pattern": "attnbuild.attention.patterns",
    "weighting": "attnbuild.attention.weightings",
    "position": "attnbuild.attention.positions",
    "encoder": "attnbuild.encoders",
    "feature_attention": "attnbuild.feature_attention",
    "decoder": "attnbuild.decoders",
    "search": "attnbuild.generation",
    "tokenizer": "attnbuild.data.tokenizers",
    "data": "attnbuild.data.readers",
    "augmentation": "attnbuild.augmentation",
    "optimizer": "attnbuild.training.optimizers",
    "scheduler": "attnbuild.training.schedulers",
    "callback": "attnbuild.training.callbacks",
    "logger": "attnbuild.training.loggers",
    "sweeper": "attnbuild.sweeps.sweepers",
    "launcher": "attnbuild.sweeps.launchers",
    "exporter": "attnbuild.export",
    "task": None,
}

ENTRY_POINT_GROUP = "attnbuild.plugins"

#: Kinds whose parts are combined in one flat preset, where an option name must mean one thing.
_ATTENTION_PARTS = ("core", "score", "pattern", "weighting", "position")

#: What a flat preset, the block around a core and ``build_attention`` call their own.
_TAKEN_NAMES = {
    *("type", "preset", *_ATTENTION_PARTS),
    *("heads", "kv_heads", "projections", "bias"),
    *("dim", "memory_dim", "causal", "sequential", "layer", "grid", "extra", "cells"),
}

_parts: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
_loaded: set[str] = set()


@dataclass(frozen=True)
class Option:
    """One option of a part, read off its constructor."""

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """Put a class or function under a name.

    Raises:
        TypeError: the kind is unknown, the name is taken, or the signature is no schema (a
            parameter after the first that is not keyword-only or has no annotation; ``**kwargs``).
        ValueError: an attention part gives another meaning to a name that attentions already have.
    """
    if kind not in KINDS:
        raise TypeError(f"unknown kind {kind!r}: {did_you_mean(kind, KINDS)}")

    def put(part: Part) -> Part:
        known = _parts[kind].get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            part.__module__,
            part.__qualname__,
        ):
            raise TypeError(f"{kind} {name!r} is already registered by {known.__module__}.{known.__qualname__}")
        _check_signature(kind, name, part)
        _parts[kind][name] = part
        return part

    return put


def _check_signature(kind: str, name: str, part: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(part).parameters.values())
    where = f"{kind} {name!r} ({part.__module__}.{part.__qualname__})"
    if not parameters or parameters[0].name != "place":
        raise TypeError(f"{where}: the first parameter must be 'place'")
    for parameter in parameters[1:]:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{where}: {parameter.name!r} must be keyword-only; *args and **kwargs are no schema")
        if parameter.annotation is inspect.Parameter.empty:
            raise TypeError(f"{where}: {parameter.name!r} needs a type annotation")
    if kind in _ATTENTION_PARTS:
        _check_meanings(where, kind, part)


def _check_meanings(where: str, kind: str, part: Callable[..., Any]) -> None:
    mine = options_of(part)
    for name in _TAKEN_NAMES.intersection(mine):
        raise ValueError(f"{where}: option {name!r} means something else in every attention; choose another name")
    for other_kind in _ATTENTION_PARTS:
        for other_name, other in _parts[other_kind].items():
            for option in options_of(other).values():
                twin = mine.get(option.name)
                if twin and twin.annotation != option.annotation:
                    raise ValueError(
                        f"{where}: option {option.name!r} has another type in {other_kind} {other_name!r}; "
                        "a name means the same in every part"
                    )


def names(kind: str) -> list[str]:
    """All registered names of a kind, sorted; those of plugins among them."""
    _load_home(kind)
    load_plugins()
    return sorted(_parts[kind])


def lookup(kind: str, name: Any) -> Any:
    """The part registered under a name.

    Raises:
        ConfigError: there is no such name; the message gives the nearest.
    """
    _load_home(kind)
    name = str(name)
    if name not in _parts[kind]:
        # Only now: what is built in should not wait for plugins, nor fall with a broken one.
        load_plugins()
    if name not in _parts[kind]:
        raise ConfigError(f"unknown {kind} {name!r}; {did_you_mean(name, _parts[kind])}")
    return _parts[kind][name]


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import the plugins: every installed entry point of the group, and the given modules.

    Args:
        modules: names of modules that are installed, or lie in the working directory.

    Raises:
        ConfigError: a module cannot be imported; the message is the root cause.
    """
    modules = list(modules)
    if modules and os.getcwd() not in sys.path:  # which python -m puts there, and a command such as attnbuild does not
        sys.path.append(os.getcwd())
    targets = {entry.value: f"entry point {entry.name!r}" for entry in entry_points(group=ENTRY_POINT_GROUP)}
    targets.update(dict.fromkeys(modules, "plugins"))
    for target, origin in targets.items():
        if target in _loaded:
            continue
        try:
            importlib.import_module(target.partition(":")[0])
        except Exception as error:  # a plugin may fail in any way; the user needs its cause, not ours
            raise ConfigError(
                f"cannot import {target!r} ({origin}): {type(error).__name__}: {error}", "plugins"
            ) from error
        _loaded.add(target)


def _load_home(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"unknown kind {kind!r}; {did_you_mean(kind, KINDS)}")
    home = KINDS[kind]
    if home is None or home in _loaded:
        return
    module = importlib.import_module(home)
    for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"{home}.{info.name}")
    _loaded.add(home)


@functools.cache
def options_of(part: Callable[..., Any]) -> dict[str, Option]:
    """The options of a part by name, in the order of its signature."""
    init = part.__init__ if inspect.isclass(part) else part
    hints = get_type_hints(init, include_extras=True)
    help_texts = _parse_docstring(part)[1]
    return {
        parameter.name: Option(
            parameter.name, hints[parameter.name], parameter.default, help_texts.get(parameter.name, "")
        )
        for parameter in inspect.signature(part).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def summary_of(part: Callable[..., Any]) -> str:
    """The first line of a part's docstring."""
    return _parse_docstring(part)[0]


@functools.cache
def _parse_docstring(part: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    from docstring_parser import DocstringStyle, parse

    document = parse(inspect.getdoc(part) or "", style=DocstringStyle.GOOGLE)
    help_texts = {item.arg_name: " ".join((item.description or "").split()) for item in document.params}
    return document.short_description or "", help_texts


def check_options(part: Callable[..., Any], values: Mapping[str, Any], path: str, owner: str) -> list[Problem]:
    """Hold values against the signature: unknown and missing names, types and ranges.

    Args:
        part: a registered class or function.
        values: the options as the config gives them, as plain Python values.
        path: the dotted path that holds them.
        owner: how a message calls the part: ``encoder 'rnn'``.
    """
    known = options_of(part)
    problems = [
        Problem(_join(path, name), f"unknown option of {owner}; {did_you_mean(name, known)}")
        for name in values
        if name not in known
    ]
    for option in known.values():
        if option.name in values:
            problem = check_value(option.annotation, values[option.name])
            if problem:
                problems.append(Problem(_join(path, option.name), problem))
        elif option.required:
            problems.append(Problem(_join(path, option.name), f"{owner} needs this option: {option.help}"))
    return problems


def check_value(annotation: Any, value: Any) -> str | None:
    """What is wrong with a value for a type such as ``Annotated[int, Ge(1)]``; None when nothing is."""
    from pydantic import ValidationError

    try:
        read = _adapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        # A union reports one error for each member; said once each, they read as alternatives.
        reasons = dict.fromkeys(item["msg"][0].lower() + item["msg"][1:] for item in error.errors())
        return f"{value!r}: {', or '.join(reasons)}"
    if type(read) is int and type(value) is not int:  # 1.0 and true equal the literal 1, and are used as none
        return f"{value!r}: input should be {read}"
    return None


@functools.cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def build(kind: str, place: Any, config: Mapping[str, Any], path: str = "") -> Any:
    """Build the part that ``config["type"]`` names, with the other keys as its options.

    Args:
        kind: the registry kind.
        place: what the builder knows, handed on as the first argument.
        config: ``{"type": name, option: value, ...}``.
        path: the dotted path of ``config``, for messages.

    Raises:
        ConfigError: unknown name or option, or a bad value: all of them together.
    """
    problems = check_part(kind, config, path)
    if problems:
        raise ConfigError(problems)
    options = dict(config)
    return lookup(kind, options.pop("type"))(place, **options)


def check_part(kind: str, config: Mapping[str, Any], path: str) -> list[Problem]:
    """Everything wrong with ``{"type": name, option: value, ...}``: the name, or else the options.

    Args:
        kind: the registry kind.
        config: the section.
        path: the dotted path of ``config``.
    """
    options = dict(config)
    name = options.pop("type", None)
    if name is None:
        return [Problem(_join(path, "type"), f"is missing; {did_you_mean('', names(kind))}")]
    try:
        part = lookup(kind, name)
    except ConfigError as error:
        return [Problem(_join(path, "type"), error.problems[0].message)]
    return check_options(part, options, path, f"{kind} {name!r}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
