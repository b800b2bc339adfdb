"""CTranslate2 (https://opennmt.net/CTranslate2), a fast engine for Transformers in C++."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.soft import Soft
from attnbuild.attention.patterns.full import Full
from attnbuild.attention.positions.none import NoPosition
from attnbuild.attention.scores.scaled_dot import ScaledDot
from attnbuild.attention.weightings.softmax import Softmax
from attnbuild.decoders.transformer import TransformerDecoder
from attnbuild.embedding import Embedding, sinusoids
from attnbuild.encoders.transformer import TransformerEncoder
from attnbuild.export.base import Exporter
from attnbuild.feedforward import FeedForward
from attnbuild.model import EncoderDecoder
from attnbuild.registry import register

if TYPE_CHECKING:
    from attnbuild.training.supervised import SupervisedTask

__all__ = ["CTranslate2"]

#: The longest input and output that the written table of sinusoids serves.
_LONGEST = 4096

_ACTIVATIONS = {nn.ReLU: "RELU", nn.GELU: "GELU", nn.SiLU: "SWISH"}


@register("exporter", "ctranslate2")
class CTranslate2(Exporter):
    """A folder for ``ctranslate2.Translator``: Transformers with plain multi-head attention."""

    needs = ("ctranslate2",)

    def refusals(self, model: EncoderDecoder) -> list[str]:
        encoder, decoder = model.encoder, model.decoder
        if type(encoder) is not TransformerEncoder or type(decoder) is not TransformerDecoder:
            return [
                "it knows the Transformer alone, with tokens on both sides: encoder=transformer decoder=transformer"
            ]
        found = ["it has no class token in the encoder"] if encoder.class_token is not None else []
        for name, block in _attentions(model):
            found += [f"{name}: {reason}" for reason in _refusals(block)]
        if len({block.heads for _, block in _attentions(model, "decoder")}) > 1:
            found.append("decoder: all its attentions must have as many heads")
        return list(dict.fromkeys(found))

    def write(self, model: EncoderDecoder, task: SupervisedTask, folder: Path) -> None:
        from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec

        encoder, decoder = model.encoder, model.decoder
        assert isinstance(encoder, TransformerEncoder)
        assert isinstance(decoder, TransformerDecoder)
        spec = TransformerSpec(
            TransformerEncoderSpec(len(encoder.layers), **_options(model, "encoder")),
            TransformerDecoderSpec(len(decoder.layers), **_options(model, "decoder")),
        )
        _set_encoder(spec.encoder, encoder)
        _set_decoder(spec.decoder, decoder)
        spec.register_source_vocabulary(task.source_side.vocabulary.pieces())
        spec.register_target_vocabulary(task.target_side.vocabulary.pieces())
        spec.config.add_source_eos = True
        spec.config.layer_norm_epsilon = 1e-5
        spec.validate()
        spec.optimize()
        spec.save(str(folder))


def _attentions(model: EncoderDecoder, part: str = "") -> Iterator[tuple[str, AttentionBlock]]:
    """(place, attention) of all, or of the encoder's or decoder's."""
    for module in model.modules():
        if isinstance(module, AttentionBlock) and module.place.name.startswith(part):
            yield module.place.name, module


def _refusals(block: AttentionBlock) -> Iterator[str]:
    """What of one attention it cannot express."""
    core = block.core
    if type(core) is not Soft:
        yield f"it has no {block.spec.core.name!r} attention"
        return
    for kind, wanted in (("score", ScaledDot), ("pattern", Full), ("weighting", Softmax), ("position", NoPosition)):
        if type(getattr(core, kind)) is not wanted:
            yield f"it has no {kind} {block.spec.parts[kind].name!r}"
    if not block.split_heads:
        yield "it projects queries, keys and values: set projections=all"
    if block.kv_heads != block.heads:
        yield "it has as many key heads as heads: leave out kv_heads"


def _options(model: EncoderDecoder, part: str) -> dict[str, Any]:
    """What a specification is told of the encoder or decoder."""
    from ctranslate2.specs.common_spec import Activation

    _, block = next(_attentions(model, part))
    layer: Any = getattr(model, part).layers[0]
    return {
        "num_heads": block.heads,
        "pre_norm": layer.feedforward_residual.norm_first,
        "activation": Activation[_ACTIVATIONS[type(layer.feedforward.activation)]],
    }


def _set_encoder(spec: Any, encoder: TransformerEncoder) -> None:
    _set_embedding(spec, spec.embeddings[0], encoder.embedding)
    if isinstance(encoder.norm, nn.LayerNorm):
        _set_norm(spec.layer_norm, encoder.norm)
    layers: list[Any] = list(encoder.layers)
    for into, layer in zip(spec.layer, layers, strict=True):
        _set_attention(into.self_attention, layer.attention, layer.attention_residual.norm)
        _set_feedforward(into.ffn, layer.feedforward, layer.feedforward_residual.norm)


def _set_decoder(spec: Any, decoder: TransformerDecoder) -> None:
    _set_embedding(spec, spec.embeddings, decoder.embedding)
    if isinstance(decoder.norm, nn.LayerNorm):
        _set_norm(spec.layer_norm, decoder.norm)
    spec.projection.weight = _copy(decoder.output.weight)
    layers: list[Any] = list(decoder.layers)
    for into, layer in zip(spec.layer, layers, strict=True):
        _set_attention(into.self_attention, layer.self_attention, layer.self_residual.norm)
        _set_attention(into.attention, layer.cross_attention, layer.cross_residual.norm)
        _set_feedforward(into.ffn, layer.feedforward, layer.feedforward_residual.norm)


def _set_embedding(spec: Any, into: Any, embedding: Embedding) -> None:
    into.weight = _copy(embedding.tokens.weight)
    dim = embedding.tokens.embedding_dim
    if embedding.positions == "learned":
        assert embedding.learned is not None
        table = embedding.learned.weight
    elif embedding.positions == "sinusoidal":
        table = sinusoids(torch.arange(_LONGEST), dim)
    else:
        table = torch.zeros(_LONGEST, dim)
    spec.position_encodings.encodings = _copy(table)


def _set_attention(spec: Any, block: AttentionBlock, norm: nn.Module) -> None:
    """Queries, keys and values in one product in self-attention, keys and values in one in cross-attention."""
    query, key, value = block.query_projection, block.key_projection, block.value_projection
    groups = [[query], [key, value]] if block.place.cross else [[query, key, value]]
    for into, group in zip(spec.linear, [*groups, [block.out_projection]], strict=True):
        _set_linear(into, [part for part in group if isinstance(part, nn.Linear)])
    _set_norm(spec.layer_norm, norm)


def _set_feedforward(spec: Any, network: FeedForward, norm: nn.Module) -> None:
    _set_linear(spec.linear_0, [network.expand])
    _set_linear(spec.linear_1, [network.contract])
    _set_norm(spec.layer_norm, norm)


def _set_linear(spec: Any, parts: list[nn.Linear]) -> None:
    weights: list[Tensor] = [part.weight for part in parts]
    spec.weight = _copy(torch.cat(weights))
    biases: list[Tensor] = [part.bias for part in parts if part.bias is not None]
    if biases:
        spec.bias = _copy(torch.cat(biases))


def _set_norm(spec: Any, norm: nn.Module) -> None:
    assert isinstance(norm, nn.LayerNorm)
    spec.gamma, spec.beta = _copy(norm.weight), _copy(norm.bias)


def _copy(weight: Tensor) -> np.ndarray:
    """A copy: the specification may change its weights in place."""
    return weight.detach().float().numpy().copy()
