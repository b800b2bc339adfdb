"""Which attention serves each place of a model.

``attention=X`` puts X at every place that X can serve; another place keeps ``multihead``, with the
reason. A preset asked for at one place by name must serve it. Layers may differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from attnbuild.attention.capabilities import Capabilities
from attnbuild.attention.place import PlaceKind
from attnbuild.attention.presets import load_preset, preset_names
from attnbuild.attention.spec import AttentionSpec
from attnbuild.errors import ConfigError, Problem, listed
from attnbuild.registry import KINDS, lookup, options_of
from attnbuild.sections import INHERIT

__all__ = ["FALLBACK", "PlaceChoice", "Places", "is_place_key", "resolve_places"]

#: What serves a place that the chosen attention cannot serve.
FALLBACK = "multihead"


@dataclass
class PlaceChoice:
    """The attention of one place.

    Attributes:
        kind: what the place asks for.
        preset: name of the preset that serves it.
        spec: what it is made of.
        reason: why the place kept the fallback; None where it serves what was chosen.
        source: the config path its options came from: ``attention``, or the place itself.
        by_layer: specs of the layers that differ.
    """

    kind: PlaceKind
    preset: str
    spec: AttentionSpec
    reason: str | None = None
    source: str = "attention"
    by_layer: dict[int, AttentionSpec] = field(default_factory=dict)

    def for_layer(self, layer: int) -> AttentionSpec:
        return self.by_layer.get(layer, self.spec)

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` records."""
        record: dict[str, Any] = {"preset": self.preset}
        if self.reason:
            record["reason"] = self.reason
        if self.by_layer:
            record["by_layer"] = {str(layer): spec.preset for layer, spec in self.by_layer.items()}
        return record


@dataclass
class Places:
    """The attention of every place of a model, and what is wrong with them."""

    choices: dict[str, PlaceChoice] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_place_key(name: str) -> bool:
    """Whether a key of an encoder's or decoder's section is a place for attention.

    ``attention_dropout`` is none, nor is ``feature_attention``, which chooses a part of another kind.
    """
    return name not in KINDS and name.removesuffix("_by_layer").endswith("attention")


def resolve_places(config: Mapping[str, Any]) -> Places:
    """Choose the attention of every place that the encoder and the decoder have.

    Args:
        config: the resolved config; ``attention``, ``encoder``, ``decoder`` and ``strict_places`` are read.
    """
    return _Resolver(config).resolve()


class _Resolver:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.root = dict(config.get("attention") or {})
        self.root_name = str(self.root.get("preset") or self.root.get("type", "soft"))
        self.places = Places()
        self.root_serves = False
        self.refusals: dict[str, str] = {}

    def resolve(self) -> Places:
        kinds = self._kinds()
        self._refuse_missing_places(kinds)
        for path, kind in kinds.items():
            self._choose(path, kind)
        self._check_root_serves()
        return self.places

    def _kinds(self) -> dict[str, PlaceKind]:
        kinds = {}
        for part in ("encoder", "decoder"):
            try:
                maker = lookup(part, self.config[part].get("type"))
            except ConfigError:
                continue  # an unknown encoder or decoder is reported where its options are checked
            kinds.update({f"{part}.{name}": kind for name, kind in maker.places_for(self.config[part]).items()})
        return kinds

    def _section(self, path: str) -> dict[str, Any]:
        part, name = path.split(".")
        section = self.config[part].get(name) or {}
        if not isinstance(section, Mapping):
            how = f"a preset is chosen with {part}/{name}=..."
            raise ConfigError(f"{section!r}: expected a section of options; {how}", path)
        return dict(section)

    def _refuse_missing_places(self, kinds: Mapping[str, PlaceKind]) -> None:
        """A place that the model lacks may be named in the config only to say nothing about it."""
        for part in ("encoder", "decoder"):
            for name, section in self.config[part].items():
                place = f"{part}.{name.removesuffix('_by_layer')}"
                if not is_place_key(name) or place in kinds or not _says_something(section):
                    continue
                has = ", ".join(path.replace(".", "/") for path in kinds) or "none"
                self._problem(
                    f"{part}.{name}",
                    f"{part} {self.config[part].get('type')!r} has no such place for attention; this model has: {has}; "
                    "leave it out",
                )

    def _choose(self, path: str, kind: PlaceKind) -> None:
        try:
            section = self._section(path)
            preset = section.pop("preset", INHERIT)
            inherits = preset == INHERIT and "type" not in section
            own = section if inherits else {"preset": "" if preset == INHERIT else preset, **section}
            choice = self._inherited(path, kind, own) if inherits else self._named(path, kind, own)
        except ConfigError as error:
            self._tell(error)
            return
        self._add_layers(path, kind, choice)
        self.places.choices[path] = choice

    def _inherited(self, path: str, kind: PlaceKind, own: dict[str, Any]) -> PlaceChoice:
        """The root attention with the options set at the place; the fallback where it cannot serve."""
        root = AttentionSpec.from_config(self.root, "attention")
        reason = root.capabilities.refusal(kind)
        if reason is None:
            self.root_serves = True
            spec = self._serving({**self.root, **own}, path, kind, set(self.root) - set(own)) if own else root
            return PlaceChoice(kind, self.root_name, spec, source=path if own else "attention")
        self.refusals[path] = reason
        if self.config.get("strict_places"):
            raise ConfigError(self._refused(path, kind, self.root_name, reason), path)
        spec = self._serving({**load_preset(FALLBACK), **own}, path, kind)
        return PlaceChoice(kind, FALLBACK, spec, reason=f"{self.root_name!r} cannot serve here: {reason}", source=path)

    def _named(self, path: str, kind: PlaceKind, own: dict[str, Any]) -> PlaceChoice:
        """A preset asked for at this very place: it serves, or it is refused."""
        spec = self._serving(own, path, kind)
        return PlaceChoice(kind, spec.preset or spec.core.name, spec, source=path)

    def _serving(
        self, options: Mapping[str, Any], path: str, kind: PlaceKind, inherited: Collection[str] = ()
    ) -> AttentionSpec:
        """The attention of these options, which must serve; where its preset would, the part that does not is told."""
        spec = AttentionSpec.from_config(options, path, inherited)
        reason = spec.capabilities.refusal(kind)
        if reason is None:
            return spec
        name = spec.preset or spec.core.name
        parts = spec.parts.values() if name in presets_that_serve(kind) else ()
        unable = [part for part in parts if getattr(part.maker, "capabilities", Capabilities()).refusal(kind)]
        raise ConfigError(
            [
                Problem(f"{path}.{part.kind}", f"{part.name!r} cannot serve here: {reason}; leave it out")
                for part in unable
            ]
            or [Problem(path, self._refused(path, kind, name, reason))]
        )

    def _add_layers(self, path: str, kind: PlaceKind, choice: PlaceChoice) -> None:
        part, name = path.split(".")
        key = f"{path}_by_layer"
        chosen_by_layer = self.config[part].get(f"{name}_by_layer") or {}
        if not isinstance(chosen_by_layer, Mapping):
            self._problem(key, f"{chosen_by_layer!r}: expected layers and their presets: {{0: window, 2: multihead}}")
            return
        layers = self._count_layers(part)
        if layers is None:
            return
        for layer, chosen in chosen_by_layer.items():
            where = f"{key}.{layer}"
            if not str(layer).isdigit() or int(layer) >= layers:
                self._problem(where, f"there is no layer {layer}; layers are 0 to {layers - 1}: leave it out")
                continue
            if not isinstance(chosen, str | Mapping):
                self._problem(where, f"{chosen!r}: expected the name of a preset, or the options of an attention")
                continue
            try:
                options = load_preset_at(chosen, where) if isinstance(chosen, str) else dict(chosen)
                choice.by_layer[int(layer)] = self._named(where, kind, options).spec
            except ConfigError as error:
                self._tell(error)

    def _count_layers(self, part: str) -> int | None:
        """How many layers an encoder or decoder has; None where the number is wrong, which is reported elsewhere."""
        declared = options_of(lookup(part, self.config[part]["type"])).get("layers")
        layers = self.config[part].get("layers", declared.default if declared else 1)
        return layers if isinstance(layers, int) else None

    def _check_root_serves(self) -> None:
        """An attention that was chosen for the model, and that no inheriting place can have, is refused."""
        if self.root_serves or not self.refusals or self.places.problems:
            return
        reasons = "; ".join(f"{path.replace('.', '/')}: {reason}" for path, reason in self.refusals.items())
        able = presets_that_serve(self.places.choices[min(self.refusals)].kind)
        advice = f"presets that can:{listed(able)}"
        self._problem("attention", f"{self.root_name!r} can serve no place of this model ({reasons});\n{advice}")

    def _refused(self, path: str, kind: PlaceKind, name: str, reason: str) -> str:
        does = "cross" if kind.cross else "causal" if kind.causal else "self"
        able = ", ".join(presets_that_serve(kind))
        return f"{name!r} cannot serve here: {reason};\n{does}-attention presets: {able}"

    def _problem(self, path: str, message: str) -> None:
        self.places.problems.append(Problem(path, message))

    def _tell(self, error: ConfigError) -> None:
        """Its problems, each once: every inheriting place finds the same ones in the root attention."""
        self.places.problems += [found for found in error.problems if found not in self.places.problems]


def _says_something(section: Any) -> bool:
    """Whether a place's section asks for anything beyond inheriting."""
    return bool(section) and section != {"preset": INHERIT}


def load_preset_at(name: str, path: str) -> dict[str, Any]:
    """A preset, with errors that name the place that asks for it."""
    try:
        return load_preset(name)
    except ConfigError as error:
        raise ConfigError(error.problems[0].message, path) from None


def presets_that_serve(kind: PlaceKind) -> list[str]:
    """The shipped presets that can serve such a place."""
    return [
        name
        for name in preset_names()
        if AttentionSpec.from_config(load_preset(name)).capabilities.refusal(kind) is None
    ]
