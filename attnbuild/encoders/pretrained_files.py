"""The files of a model of the transformers library, and what takes their place in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attnbuild.data.hub import quietly, reading, require_in_reach, transformers
from attnbuild.errors import ConfigError

__all__ = ["PATH", "TOKENS", "ModelFiles"]

#: The option that says where they are.
PATH = "encoder.path"
#: Beside the model's own config, where a checkpoint carries it: the ids of its tokenizer.
TOKENS = "attnbuild_tokens"
#: The input that a model asks for, and its modality here.
_MODALITIES = {"input_ids": "text", "pixel_values": "image"}


class ModelFiles:
    """A model's files: those at a path, or the config that a checkpoint carries and no weights.

    Args:
        path: folder, or name on the hub.
        config: what ``carried`` gave once; the path is then not read.
    """

    def __init__(self, path: str | None, config: Mapping[str, Any] | None) -> None:
        self.path, self.carried = path, config
        self.option = PATH if config is None else "encoder.config"
        with reading(self.name, self.option):
            self.config = self._read_config()
        if hasattr(self.config, "text_config") and hasattr(self.config, "vision_config"):
            message = f"{self.name!r} reads text and images at once ({self.config.model_type}): choose a model of one"
            raise ConfigError(message, self.option)

    @property
    def library(self) -> ModuleType:
        """Not kept: copies of a model copy what it holds."""
        return transformers(PATH)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path or "the model of encoder.config"

    @property
    def unread(self) -> bool:
        """Whether only the config may be read: while a run is checked, on no device."""
        return torch.empty(0).is_meta

    def _read_config(self) -> Any:
        if self.carried is None:
            library = self.library
            require_in_reach(self.path, self.option)
            return library.AutoConfig.from_pretrained(self.path, trust_remote_code=False)
        own = {name: value for name, value in self.carried.items() if name != TOKENS}
        return self.library.AutoConfig.for_model(**own)

    def to_carry(self) -> dict[str, Any]:
        """The model's config as plain values, without the place it was read from."""
        values = json.loads(self.config.to_json_string(use_diff=False))
        return {name: value for name, value in values.items() if name not in ("_name_or_path", "transformers_version")}

    def shape(self) -> nn.Module:
        """The model on no device, where nothing has numbers."""
        with torch.device("meta"):
            return self._fresh()

    def model(self, modality: str) -> nn.Module:
        """The model, with its weights where they are to be read.

        Raises:
            ConfigError: it cannot be read, lacks weights, or reads something else.
        """
        with reading(self.name, self.option):
            model = self.shape()
            self._require(model, modality)  # before anything large is read
            if not self.unread:
                model = self._read() if self.carried is None else self._fresh()
        return model

    def _require(self, model: nn.Module, modality: str) -> None:
        reads = _MODALITIES.get(getattr(model, "main_input_name", ""))
        if reads == modality:
            return
        what = reads or f"neither text nor images ({self.config.model_type})"
        raise ConfigError(f"{self.name!r} reads {what}, and this data is {modality}", self.option)

    def _fresh(self) -> nn.Module:
        return _bare(self.library.AutoModel.from_config(self.config, trust_remote_code=False))

    def weights(self) -> dict[str, Tensor] | None:
        """The weights at the path; None where they come from elsewhere."""
        if self.unread or self.carried is not None:
            return None
        with reading(self.name, self.option):
            return self._read().state_dict()

    def _read(self) -> nn.Module:
        with quietly():  # what is missing is told here; what is left over belongs to the task it was trained on
            loaded, told = self.library.AutoModel.from_pretrained(
                self.path, config=self.config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
        model = _bare(loaded)
        missing = sorted(set(told["missing_keys"]) & set(model.state_dict()))
        if missing:
            raise ConfigError(
                f"the files of {self.path!r} lack weights of a {self.config.model_type} model: {', '.join(missing[:3])}"
                f"{', ...' if len(missing) > 3 else ''}",
                PATH,
            )
        return model


def _bare(model: Any) -> nn.Module:
    """The encoder of a model, without the layer that pools for the task it was trained on."""
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    pooler = getattr(model, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        model.pooler = None
    return model
