"""One config, one model: the only place that knows the whole shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.build import build_block
from attnbuild.attention.maker import AttentionMaker
from attnbuild.attention.place import Place
from attnbuild.attention.spec import AttentionSpec
from attnbuild.data.tokenizers.vocabulary import EOS, PAD
from attnbuild.decoders.base import Decoded, Decoder, DecoderPlace, DecoderState, Generator
from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.errors import ConfigError, Problem
from attnbuild.initialisation import initialise
from attnbuild.inputs import Ends
from attnbuild.memory import Memory
from attnbuild.places import Places, is_place_key, resolve_places
from attnbuild.registry import build, check_part, lookup, names

__all__ = ["EncoderDecoder", "build_model", "check_model"]


class EncoderDecoder(nn.Module):
    """Encoder, memory, decoder.

    Args:
        encoder: turns the source, token ids (B, S) or pixels (B, C, H, W), into memory.
        decoder: turns memory into logits: of the tokens after those of a target, or of labels.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, source: Tensor, *target: Tensor) -> Tensor:
        """Source and, for a decoder that writes text, token ids (B, T) -> logits (B, T, V); (B, labels) without."""
        return self.decode(source, *target).logits

    def decode(self, source: Tensor, *target: Tensor, need_weights: bool = False) -> Decoded:
        """The same with all choices of sampled attentions, those of the encoder too, where they can matter."""
        memory = self.encoder(source)
        decoded = self.decoder(*target, memory, need_weights=need_weights)
        choices = decoded.choices
        if target:
            # After the end nothing is asked: there a choice earns nothing, and would only be noise.
            real = (target[0] != PAD) & (target[0] != EOS)
            choices = [choice.where(real) for choice in choices]
        return replace(decoded, choices=memory.choices + choices)

    def encode(self, source: Tensor) -> Memory:
        """The source -> memory."""
        return self.encoder(source)

    def start(self, source: Tensor) -> DecoderState:
        """The state of a decoder that writes text before the first token."""
        return self.generator.start(self.encoder(source))

    @property
    def generator(self) -> Generator:
        """The decoder, where it writes text."""
        assert isinstance(self.decoder, Generator)
        return self.decoder


def build_model(config: Mapping[str, Any], ends: Ends) -> EncoderDecoder:
    """Assemble the model that a resolved config describes.

    Args:
        config: the resolved config; ``model``, ``encoder``, ``decoder`` and ``attention`` are read.
        ends: what it reads and gives.

    Raises:
        ConfigError: what does not fit, all of it together.
    """
    places = resolve_places(config)
    mismatches = _mismatches(config, ends)
    if places.problems or mismatches:
        raise ConfigError([*mismatches, *places.problems])
    problems: list[Problem] = []
    try:
        source = EncoderPlace(ends.source, _Maker("encoder", places, problems))
        encoder = build("encoder", source, _options(config, "encoder"), "encoder")
        target = DecoderPlace(ends.outputs, encoder.dim, _Maker("decoder", places, problems), encoder.own_summary)
        decoder = build("decoder", target, _options(config, "decoder"), "decoder")
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    model = EncoderDecoder(encoder, decoder)
    shared = config.get("model") or {}
    initialise(model, shared.get("initialisation", "xavier"))
    if isinstance(decoder, Generator):
        _tie_embeddings(encoder, decoder, shared.get("tie_embeddings", "none"), ends.shared_vocabulary)
    return model


def check_model(config: Mapping[str, Any], ends: Ends, assemble: bool = True) -> list[Problem]:
    """Everything wrong with encoder, decoder and attentions, found without data.

    Args:
        config: the resolved config.
        ends: what it will read and give, as far as that is known without data.
        assemble: also build the model, on no device, where all options are right by themselves; not to be
            asked for where other sections are known to be wrong.
    """
    problems = [
        problem for part in ("encoder", "decoder") for problem in check_part(part, _options(config, part), part)
    ]
    problems += resolve_places(config).problems
    if problems or not assemble:
        return problems
    try:
        with torch.device("meta"):
            build_model(config, ends)
    except ConfigError as error:
        return list(error.problems)
    return []


def _mismatches(config: Mapping[str, Any], ends: Ends) -> list[Problem]:
    """An encoder that cannot read the data, a decoder that does not give what the task asks for."""
    encoder, decoder = (lookup(part, config[part].get("type")) for part in ("encoder", "decoder"))
    problems, modality = [], ends.source.modality
    if modality not in encoder.reads:
        able = [name for name in names("encoder") if modality in lookup("encoder", name).reads]
        message = f"{config['encoder']['type']!r} reads {' and '.join(encoder.reads)}, and this data is {modality}"
        problems.append(Problem("encoder.type", f"{message}; choose encoder={' | '.join(able)}"))
    if decoder.writes != ends.writes:
        able = [name for name in names("decoder") if lookup("decoder", name).writes == ends.writes]
        message = f"{config['decoder']['type']!r} writes {decoder.writes}, and this task needs {ends.writes}"
        problems.append(Problem("decoder.type", f"{message}; choose decoder={' | '.join(able)}"))
    return problems


def _options(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The section less its places for attention, which are resolved for the model as a whole."""
    return {name: value for name, value in config[part].items() if not is_place_key(name)}


class _Maker(AttentionMaker):
    """Builds the attention of a place; problems are collected, so that all places are heard.

    Args:
        part: encoder or decoder.
        places: the attention of every place.
        problems: where those that cannot be built are told; something that can be built stands in for them.
    """

    def __init__(self, part: str, places: Places, problems: list[Problem]) -> None:
        self.part, self.places, self.problems = part, places, problems

    def __call__(
        self,
        name: str,
        *,
        dim: int,
        memory_dim: int | None = None,
        layer: int = 0,
        grid: tuple[int, int] | None = None,
        extra: int = 0,
    ) -> AttentionBlock:
        path = f"{self.part}.{name}"
        choice = self.places.choices.get(path)
        if choice is None:
            raise ConfigError(f"{self.part} asks for an attention at {path}, which is none of its 'places'")
        kind = choice.kind
        place = Place(path, dim, memory_dim or dim, layer, grid, extra, **vars(kind))
        try:
            return build_block(choice.for_layer(layer), place)
        except ConfigError as error:
            source = f"{path}_by_layer.{layer}" if layer in choice.by_layer else choice.source
            for problem in error.problems:
                self._tell(problem, path, source)
            return build_block(AttentionSpec.from_config({"heads": 1}), place)

    def _tell(self, problem: Problem, place: str, source: str) -> None:
        """A problem of an option is told once, however many places and layers have it."""
        told = _at_source(problem, place, source)
        if not any(told.path == known.path and known.message.startswith(problem.message) for known in self.problems):
            self.problems.append(told)


def _at_source(problem: Problem, place: str, source: str) -> Problem:
    """A problem found at a place, told at the path whose options caused it."""
    if source == place:
        return problem
    return Problem(problem.path.replace(place, source, 1), f"{problem.message} (at {place})")


def _tie_embeddings(encoder: Encoder, decoder: Generator, tie: str, shared_vocabulary: bool) -> None:
    """Share matrices: target = output with the target embedding; all = with the source's too (Press and Wolf 2017)."""
    if tie == "none":
        return
    path = "model.tie_embeddings"
    if decoder.never_tied:
        raise ConfigError(f"{decoder.never_tied}: set model.tie_embeddings=none", path)
    target, output = decoder.embedding.tokens, decoder.output
    output.weight = target.weight
    if tie == "target":
        return
    if encoder.embedding is None:
        raise ConfigError("'all' needs an encoder that embeds tokens: choose 'target' or 'none'", path)
    source = encoder.embedding.tokens
    if not shared_vocabulary:
        raise ConfigError(
            "'all' needs one vocabulary for both sides: choose 'target', or set tokenizer.joint=true", path
        )
    widths = source.embedding_dim, target.embedding_dim
    if widths[0] != widths[1]:
        raise ConfigError(
            f"'all' needs equal widths; encoder.dim is {widths[0]} and decoder.dim {widths[1]}: "
            "choose 'target', or set them equal",
            path,
        )
    target.weight = source.weight
    output.weight = source.weight
