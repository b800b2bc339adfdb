"""Encoders that others have trained."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from attnbuild.encoders.base import Encoder, EncoderPlace
from attnbuild.encoders.pretrained_files import PATH, ModelFiles
from attnbuild.encoders.pretrained_image import ImageReader
from attnbuild.encoders.pretrained_text import TextReader
from attnbuild.errors import ConfigError
from attnbuild.inputs import TextInput
from attnbuild.linear import Linear
from attnbuild.memory import Memory
from attnbuild.registry import register

__all__ = ["PretrainedEncoder"]


@register("encoder", "pretrained")
class PretrainedEncoder(Encoder):
    """A model of the transformers library: of text (BERT, RoBERTa, ...) or of images (ViT, ResNet, ConvNeXt, ...).

    The state of its class token, where it has one, is the memory's summary; the mean of its states otherwise. Images
    are normalised as the model's own files say. While a config is checked, only the model's own config is read.

    Args:
        path: folder, or name on the Hugging Face hub.
        freeze: leave its weights, and keep it in evaluation mode: no dropout, and batch norm as it was trained.
        dim: width of the memory, by a linear map; null: the model's own.
        config: the model's own config, instead of its path: it then starts with fresh weights. Checkpoints carry it.
    """

    reads = ("text", "image")

    def __init__(
        self,
        place: EncoderPlace,
        *,
        path: str | None = None,
        freeze: bool = False,
        dim: Annotated[int, Ge(1)] | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if path is None and config is None:
            raise ConfigError("name a folder or a model of the Hugging Face hub, such as bert-base-uncased", PATH)
        self.files = ModelFiles(path, config)
        self.reader: TextReader | ImageReader
        if isinstance(place.source, TextInput):
            self.reader = TextReader(self.files, place.source)
        else:
            self.reader = ImageReader(self.files, place.source)
        self.own_summary = self.reader.own_summary
        self.freeze = freeze
        if freeze:
            self.reader.requires_grad_(False)
        width = self.reader.width
        self.dim = dim or width
        self.project = nn.Identity() if self.dim == width else Linear(width, self.dim)
        self.train()

    def after_initialisation(self) -> None:
        """What initialises a whole model has drawn its weights anew: they are read again."""
        weights = self.files.weights()
        if weights is not None:
            self.reader.model.load_state_dict(weights)

    def carried(self) -> dict[str, Any]:
        """The options with which a checkpoint's config makes it again without any file but the checkpoint."""
        return {"config": self.reader.carried()}

    def train(self, mode: bool = True) -> PretrainedEncoder:
        super().train(mode)
        if self.freeze:
            self.reader.eval()
        return self

    def forward(self, source: Tensor) -> Memory:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            memory = self.reader(source)
        states, summary = self.project(memory.states), self.project(memory.summary)
        return Memory(states, memory.key_padding_mask, summary, memory.grid)
