"""ONNX (https://onnx.ai), which many engines run: ONNX Runtime, TensorRT, OpenVINO, browsers."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnbuild.attention.block import AttentionBlock
from attnbuild.attention.core.soft import Soft
from attnbuild.decoders.classifier import Classifier
from attnbuild.decoders.transformer import TransformerDecoder
from attnbuild.encoders.cnn import CNNEncoder
from attnbuild.encoders.transformer import TransformerEncoder
from attnbuild.encoders.vit import VisionTransformer
from attnbuild.export.base import Exporter
from attnbuild.inputs import Input, TextInput
from attnbuild.memory import Memory
from attnbuild.model import EncoderDecoder
from attnbuild.registry import register

if TYPE_CHECKING:
    from attnbuild.training.supervised import SupervisedTask

__all__ = ["ONNX"]

_ENCODERS = (TransformerEncoder, CNNEncoder, VisionTransformer)
_DECODERS = (TransformerDecoder, Classifier)


@register("exporter", "onnx")
class ONNX(Exporter):
    """``model.onnx`` of a classifier; ``encoder.onnx`` and ``decoder.onnx`` of what writes text.

    Classifier: source -> logits (B, labels).
    Encoder: source -> states (B, S, D), padding (B, S) where there is any, summary (B, D).
    Decoder: target (B, T) from ``BOS`` on, and what the encoder gave -> logits (B, V) of the token after the last.

    The source is token ids (B, S) int64, or pixels (B, C, H, W) uint8. Batch and lengths are free; images keep the
    size of the config.
    """

    needs = ("onnx", "onnxscript")

    def refusals(self, model: EncoderDecoder) -> list[str]:
        found = []
        if type(model.encoder) not in _ENCODERS or type(model.decoder) not in _DECODERS:
            found.append("it unrolls no loop over time: encoder=transformer|cnn|vit decoder=transformer|classifier")
        for module in model.modules():
            if isinstance(module, AttentionBlock):
                found += [f"{module.place.name}: {reason}" for reason in _refusals(module)]
        return list(dict.fromkeys(found))

    def write(self, model: EncoderDecoder, task: SupervisedTask, folder: Path) -> None:
        model = _written_out(model)
        source = _example(task.source_side.input())
        if isinstance(model.decoder, Classifier):
            _export(model, {"source": source}, ["logits"], folder / "model.onnx")
            return
        encoder, decoder = _Encoder(model), _Decoder(model)
        with torch.no_grad():
            memory = dict(zip(("states", "summary", "padding"), encoder(source), strict=False))
        target = torch.ones(len(source), 3, dtype=torch.long)
        _export(encoder, {"source": source}, list(memory), folder / "encoder.onnx")
        _export(decoder, {"target": target, **memory}, ["logits"], folder / "decoder.onnx")


def _refusals(block: AttentionBlock) -> Iterator[str]:
    """What of one attention cannot be written."""
    if type(block.core) is not Soft:
        yield f"the core {block.spec.core.name!r} goes by the lengths at hand, or keeps a state: only 'soft' is written"
    elif block.max_len is not None:
        yield "it has a longest input (max_len), and inputs are of any length there"


def _written_out(model: EncoderDecoder) -> EncoderDecoder:
    """The same model, its attentions by their definition: kernels are the engine's to choose, at every length."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, Soft):
            module.backend = "reference"
    return model


def _example(given: Input) -> Tensor:
    """Two sources, one of them padded; no size is 1, which would be taken for a constant."""
    if isinstance(given, TextInput):
        tokens = torch.full((2, 5), given.vocabulary - 1)
        tokens[1, -1] = given.pad_id
        return tokens
    return torch.zeros(2, given.channels, given.height, given.width, dtype=torch.uint8)


class _Encoder(nn.Module):
    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        memory = self.encoder(source)
        given = (memory.states, memory.summary)
        return given if memory.key_padding_mask is None else (*given, memory.key_padding_mask)


class _Decoder(nn.Module):
    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.decoder = model.generator

    def forward(self, target: Tensor, states: Tensor, summary: Tensor, padding: Tensor | None = None) -> Tensor:
        logits: Tensor = self.decoder(target, Memory(states, padding, summary)).logits[:, -1]
        return logits


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    free = {name: _free_axes(name, value) for name, value in inputs.items()}
    with _quietly(), torch.no_grad():
        program: Any = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple(free.values()),
            input_names=list(inputs),
            output_names=outputs,
            verbose=False,
        )
    program.save(str(path))


def _free_axes(name: str, value: Tensor) -> dict[int, Any]:
    """The batch, and the length of what has one."""
    fixed_length = name == "summary" or value.dim() == 4
    return dict.fromkeys((0,) if fixed_length else (0, 1), torch.export.Dim.DYNAMIC)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what PyTorch's exporter says of itself and of packages that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
