"""A pretrained model that reads text."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.data.tokenizers.pretrained import SHIFT, ModelTokens, model_tokens
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK
from attnbuild.encoders.pretrained_files import PATH, TOKENS, ModelFiles
from attnbuild.errors import ConfigError, DataError
from attnbuild.inputs import TextInput
from attnbuild.memory import Memory, masked_mean

__all__ = ["TextReader"]


class TextReader(nn.Module):
    """Our token ids to the model's, and its states to ours."""

    def __init__(self, files: ModelFiles, source: TextInput) -> None:
        super().__init__()
        self.model = files.model("text")
        self.width = int(files.config.hidden_size)
        self.tokens = self._tokens(files, source)
        self.own_summary = self.tokens.class_token
        self.name, self.longest = files.name, _longest(self.model, files.config)
        takes = inspect.signature(self.model.forward).parameters
        self.kinds = getattr(files.config, "type_vocab_size", 0) if "token_type_ids" in takes else 0
        self.config = files.to_carry()

    def _tokens(self, files: ModelFiles, source: TextInput) -> ModelTokens:
        if files.carried is not None and TOKENS in files.carried:
            tokens = ModelTokens(**files.carried[TOKENS])
        elif files.unread:
            return ModelTokens(source.vocabulary - SHIFT, 0, 0, 0, 0, class_token=True)
        elif files.path is None:
            raise ConfigError(
                f"lacks {TOKENS!r}, the ids of its tokenizer, which a checkpoint carries", "encoder.config"
            )
        else:
            tokens = model_tokens(files.path, PATH)
        if not files.unread and (source.vocabulary != tokens.count + SHIFT or tokens.count > files.config.vocab_size):
            raise ConfigError(
                f"{files.name!r} reads its own {tokens.count} tokens and not the {source.vocabulary - SHIFT} of this "
                f"tokenizer: set tokenizer=pretrained tokenizer.path={files.path}",
                "tokenizer.type",
            )
        return tokens

    def carried(self) -> dict[str, Any]:
        return {**self.config, TOKENS: self.tokens.to_dict()}

    def forward(self, source: Tensor) -> Memory:
        """Token ids (B, S), padded at the right -> memory."""
        padding, ids = source == PAD, self._to_model(source)
        mask = ~padding
        if self.tokens.class_token:
            ids = F.pad(ids, (1, 0), value=self.tokens.begin)
            mask = F.pad(mask, (1, 0), value=True)
        if self.longest is not None and ids.shape[1] > self.longest:
            raise DataError(
                f"a text of {source.shape[1]} tokens is longer than {self.name!r} reads, "
                f"{self.longest - (ids.shape[1] - source.shape[1])}: set batch.max_length, or leave long texts out"
            )
        kinds = {"token_type_ids": self._kinds(ids)} if self.kinds > 1 else {}
        states = self.model(input_ids=ids, attention_mask=mask.long(), **kinds).last_hidden_state
        if self.tokens.class_token:
            return Memory(states[:, 1:], padding, states[:, 0])
        return Memory(states, padding, masked_mean(states, padding))

    def _to_model(self, source: Tensor) -> Tensor:
        ids = source - SHIFT
        own = {PAD: self.tokens.pad, BOS: self.tokens.begin, EOS: self.tokens.end, UNK: self.tokens.unknown}
        for ours, theirs in own.items():
            ids = ids.masked_fill(source == ours, theirs)
        return ids

    def _kinds(self, ids: Tensor) -> Tensor:
        """0 up to the end of the first text, 1 for the second (Devlin et al. 2019, figure 2)."""
        ends = (ids == self.tokens.end).long()
        second = (ends.cumsum(dim=1) - ends).clamp(max=self.kinds - 1)
        return second.masked_fill(ids == self.tokens.pad, 0)


def _longest(model: nn.Module, config: Any) -> int | None:
    """How many tokens the model has positions for; None = any number."""
    limit = getattr(config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from the one after padding's.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return limit
