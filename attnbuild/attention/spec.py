"""From the flat options of a preset to the parts they belong to.

The options of an attention are the union of its parts' own options; each is routed to the part that
declares it. Everything that can be wrong without knowing the place is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbuild.attention.capabilities import Capabilities, combine
from attnbuild.attention.heads import Heads
from attnbuild.attention.presets import load_preset, preset_names
from attnbuild.errors import ConfigError, Problem, did_you_mean, listed
from attnbuild.registry import Option, check_value, lookup, names, options_of

__all__ = ["PART_DEFAULTS", "AttentionSpec", "Part"]

#: The kinds of parts a core may be composed of, and which is used where none is named.
PART_DEFAULTS = {"score": "scaled_dot", "pattern": "full", "weighting": "softmax", "position": "none"}


@dataclass
class Part:
    """A registered part and the options that are its."""

    kind: str
    name: str
    maker: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, place: Any) -> Any:
        return self.maker(place, **self.options)


@dataclass
class AttentionSpec:
    """What an attention is made of.

    Attributes:
        preset: the name it was chosen by; empty for a bare mapping.
        core: the core and its options.
        parts: the core's parts by kind; empty for cores that take none.
        block: the options of the block around the core (heads, projections, ...).
        path: the config path that holds its options: ``attention``, or the place that has its own.
    """

    preset: str
    core: Part
    parts: dict[str, Part]
    block: dict[str, Any]
    path: str = "attention"

    @property
    def capabilities(self) -> Capabilities:
        """What the core can do, less what its parts take away."""
        makers = {kind: part.maker for kind, part in self.parts.items()}
        composed = getattr(self.core.maker, "composed", None)
        own = [composed(makers, self.core.options)] if composed else []
        return combine([*own, *(maker.capabilities for maker in makers.values() if hasattr(maker, "capabilities"))])

    @property
    def reads_key(self) -> bool:
        """Whether the core and all its parts look at keys."""
        makers: list[Any] = [self.core.maker, *(part.maker for part in self.parts.values())]
        return all(getattr(maker, "reads_key", True) for maker in makers)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], path: str = "attention", inherited: Collection[str] = ()
    ) -> AttentionSpec:
        """Read flat options.

        Args:
            config: ``{"type": core, part kinds and options...}``; ``preset`` may carry the name.
            path: the dotted path that holds them, for messages.
            inherited: options that were set for another place; those of a part that is replaced here are passed over.

        Raises:
            ConfigError: all problems together: unknown names and options, bad values, parts that do not fit.
        """
        reader = _Reader(config, path, inherited)
        spec = reader.read()
        if reader.problems or spec is None:
            raise ConfigError(reader.problems)
        return spec


class _Reader:
    """Routes each option to the part that declares it, and collects what is wrong."""

    def __init__(self, config: Mapping[str, Any], path: str, inherited: Collection[str] = ()) -> None:
        self.config = dict(config)
        self.path = path
        self.inherited = inherited
        self.preset = str(self.config.pop("preset", "") or "")
        self.problems: list[Problem] = []

    @property
    def owner(self) -> str:
        return f"preset {self.preset!r}" if self.preset else "this attention"

    def read(self) -> AttentionSpec | None:
        core = self._part("core", self.config.pop("type", "soft"), key="type")
        if core is None:
            return None
        parts = self._parts(core)
        spec = AttentionSpec(self.preset, core, parts, {}, self.path)
        for name, value in self.config.items():
            self._route(spec, name, value)
        if not self.problems:
            self._check_fit(spec)
        return spec

    def _parts(self, core: Part) -> dict[str, Part]:
        accepted = getattr(core.maker, "part_kinds", ())
        parts = {}
        for kind, default in PART_DEFAULTS.items():
            name = self.config.pop(kind, None)
            if kind not in accepted:
                if name is not None:
                    self._problem(kind, f"the core {core.name!r} of {self.owner} takes no {kind}; leave it out")
                continue
            part = self._part(kind, name or default, key=kind)
            if part is not None:
                parts[kind] = part
        return parts

    def _part(self, kind: str, name: Any, key: str) -> Part | None:
        try:
            return Part(kind, name, lookup(kind, name))
        except ConfigError as error:
            self._problem(key, error.problems[0].message)
            return None

    def _route(self, spec: AttentionSpec, name: str, value: Any) -> None:
        # A name means the same in every part, so every part that declares it takes the value.
        homes = [(declared[name], options) for declared, options in self._homes(spec) if name in declared]
        if homes:
            complaint = check_value(homes[0][0].annotation, value)
            if complaint:
                self._problem(name, complaint)
            for _, options in homes:
                options[name] = value
            return
        if name in self.inherited or (self.preset in preset_names() and load_preset(self.preset).get(name) == value):
            return  # said of a part by the preset itself, or for another place, and another part stands here
        known = {option for declared, _ in self._homes(spec) for option in declared} | set(spec.parts) | {"type"}
        advice = _owner_elsewhere(name, spec) or did_you_mean(name, known)
        self._problem(name, f"unknown option of {self.owner}; {advice}")

    def _homes(self, spec: AttentionSpec) -> Iterator[tuple[Mapping[str, Option], dict[str, Any]]]:
        yield options_of(Heads), spec.block
        for part in (spec.core, *spec.parts.values()):
            yield options_of(part.maker), part.options

    def _check_fit(self, spec: AttentionSpec) -> None:
        score, position = spec.parts.get("score"), spec.parts.get("position")
        if score and position and getattr(position.maker, "needs_dot_like", False):
            dot_like = [name for name in names("score") if getattr(lookup("score", name), "dot_like", False)]
            if score.name not in dot_like:
                self._problem(
                    "position",
                    f"{position.name!r} turns a product of query and key, and the score {score.name!r} is none; "
                    f"set score={' | '.join(dot_like)}, or position=alibi",
                )

    def _problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(f"{self.path}.{key}", message))


def _owner_elsewhere(name: str, spec: AttentionSpec) -> str:
    """Advice for an option that exists, but not here: the presets that have it, or parts that bring it."""
    presets = [preset for preset in preset_names() if _declares(load_preset(preset), name)]
    advice = [f"it is an option of the preset{'s' * (len(presets) > 1)}:{listed(presets)}"] if presets else []
    for kind, part in spec.parts.items():
        able = [repr(other) for other in names(kind) if name in options_of(lookup(kind, other))]
        if able:
            advice.append(f"it belongs to {kind} {' and '.join(able)}, and {kind} is {part.name!r} here")
    return ";\n".join(advice)


def _declares(config: Mapping[str, Any], option: str) -> bool:
    """Whether a part of a shipped preset has an option; the block's are everyone's."""
    core = lookup("core", config.get("type", "soft"))
    accepted = getattr(core, "part_kinds", ())
    parts = [lookup(kind, config.get(kind, default)) for kind, default in PART_DEFAULTS.items() if kind in accepted]
    return any(option in options_of(part) for part in (core, *parts))
