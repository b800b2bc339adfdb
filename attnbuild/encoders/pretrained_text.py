"""A pretrained model that reads text."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnbuild.data.tokenizers.pretrained import SHIFT, ModelTokens, model_tokens
from attnbuild.data.tokenizers.vocabulary import BOS, EOS, PAD, UNK
from attnbuild.encoders.pretrained_files import PATH, TOKENS, ModelFiles
from attnbuild.errors import ConfigError
from attnbuild.inputs import TextInput
from attnbuild.memory import Memory, masked_mean

__all__ = ["TextReader"]

_log = logging.getLogger(__name__)


class TextReader(nn.Module):
    """Our token ids to the model's, and its states to ours.

    Of a text that is longer than the model has positions for, the beginning is read, as is usual; a log line says so.
    """

    def __init__(self, files: ModelFiles, source: TextInput) -> None:
        super().__init__()
        self.model = files.model("text")
        self.width = int(files.config.hidden_size)
        self.tokens = self._tokens(files, source)
        self.own_summary = self.tokens.class_token
        self.name, self.longest = files.name, _longest(self.model, files.config)
        self._cut_was_told = False
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
        """Token ids (B, S), padded at the right -> memory, of the beginning where S is more than the model reads."""
        source = self._beginning(source)
        padding, ids = source == PAD, self._to_model(source)
        mask = ~padding
        if self.tokens.class_token:
            ids = F.pad(ids, (1, 0), value=self.tokens.begin)
            mask = F.pad(mask, (1, 0), value=True)
        kinds = {"token_type_ids": self._kinds(ids)} if self.kinds > 1 else {}
        states = self.model(input_ids=ids, attention_mask=mask.long(), **kinds).last_hidden_state
        if self.tokens.class_token:
            return Memory(states[:, 1:], padding, states[:, 0])
        return Memory(states, padding, masked_mean(states, padding))

    def _beginning(self, source: Tensor) -> Tensor:
        """As many tokens as the model has positions for; what is cut ends as whole texts do."""
        if self.longest is None:
            return source
        most = self.longest - self.tokens.class_token
        if source.shape[1] <= most:
            return source
        if not self._cut_was_told:
            self._cut_was_told = True
            _log.warning(
                "%s reads %d tokens: of longer texts, such as one of %d, it sees the beginning",
                self.name,
                most,
                source.shape[1],
            )
        beginning, goes_on = source[:, :most], source[:, most] != PAD
        end = torch.where(goes_on, EOS, beginning[:, -1])
        return torch.cat([beginning[:, :-1], end.unsqueeze(1)], dim=1)

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
