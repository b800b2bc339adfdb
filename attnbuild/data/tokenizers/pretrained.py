"""The tokenizer of a pretrained model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from tokenizers.trainers import Trainer

from attnbuild.data.cache import content_hash
from attnbuild.data.hub import reading, require_in_reach, transformers
from attnbuild.data.place import TokenizerPlace
from attnbuild.data.tokenizers.base import Trainable
from attnbuild.data.tokenizers.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary
from attnbuild.errors import ConfigError
from attnbuild.registry import register

__all__ = ["SHIFT", "ModelTokens", "PretrainedTokenizer", "model_tokens"]

#: Id n of the model is id n + SHIFT of its vocabulary here, whose first ids are ``SPECIAL_TOKENS``.
SHIFT = len(SPECIAL_TOKENS)


@dataclass(frozen=True)
class ModelTokens:
    """The ids that a pretrained model has for what every vocabulary here has too.

    Attributes:
        count: number of its tokens.
        pad: of padding.
        begin: of the token before a text.
        end: of the token after a text, and between two.
        unknown: of what it has no token for.
        class_token: whether ``begin`` stands before every text it reads, and sums it up.
    """

    count: int
    pad: int
    begin: int
    end: int
    unknown: int
    class_token: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def model_tokens(path: str, option: str) -> ModelTokens:
    """The ids of the tokenizer at a path.

    Args:
        path: folder, or name on the hub.
        option: the config path that holds it.

    Raises:
        ConfigError: it cannot be read, or is no tokenizer that ends texts.
    """
    tokenizer = _load(path, option)
    end = _first(tokenizer.sep_token_id, tokenizer.eos_token_id)
    if end is None:
        raise ConfigError(f"the tokenizer of {path!r} has no token that ends a text", option)
    begin = _first(tokenizer.cls_token_id, tokenizer.bos_token_id, end)
    first = tokenizer("a")["input_ids"][0]
    return ModelTokens(
        count=len(tokenizer),
        pad=_first(tokenizer.pad_token_id, end),
        begin=begin,
        end=end,
        unknown=_first(tokenizer.unk_token_id, end),
        class_token=tokenizer.cls_token_id is not None and first == tokenizer.cls_token_id,
    )


@register("tokenizer", "pretrained")
class PretrainedTokenizer(Trainable):
    """The tokens of a pretrained model, for encoder=pretrained. Not trained: they are as they were published.

    The model's token n has the id n + 4; a text never yields the model's own special tokens, and what it has no
    token for becomes <unk>. Source and target share the one vocabulary.

    Args:
        place: what the builder knows.
        path: folder, or name on the Hugging Face hub, of the model.
    """

    def __init__(self, place: TokenizerPlace, *, path: str) -> None:
        super().__init__(joint=True, lowercase=False)
        self.path = path

    def pipeline(self) -> Tokenizer:
        return Tokenizer.from_str(self._json)

    def trainer(self) -> Trainer:
        raise TypeError("a pretrained tokenizer is not trained")

    def train(self, lines: Iterable[str]) -> Vocabulary:
        return Vocabulary.from_json(self._json)

    def fingerprint(self) -> str:
        return content_hash(type(self).__name__, self._json)

    def size_hint(self) -> int:
        return len(Vocabulary.from_json(self._json))

    @cached_property
    def _json(self) -> str:
        option = "tokenizer.path"
        loaded = _load(self.path, option)
        with reading(self.path, option):
            return _shifted(loaded.backend_tokenizer.to_str(), self.path)


def _load(path: str, option: str) -> Any:
    """The tokenizer at a path, as ``transformers`` has it."""
    library = transformers(option)
    require_in_reach(path, option)
    with reading(path, option):
        tokenizer = library.AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ConfigError(f"the tokenizer of {path!r} is none of the tokenizers library, which is needed here", option)
    return tokenizer


def _first(*ids: int | None) -> Any:
    """The first that there is."""
    return next((token for token in ids if token is not None), None)


def _shifted(text: str, path: str) -> str:
    """A tokenizer's JSON with ``SPECIAL_TOKENS`` before all of its tokens.

    Raises:
        ConfigError: it is of a kind that is not known here, or its ids have gaps.
    """
    data = json.loads(text)
    model = data["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = _own({_renamed(name): number + SHIFT for name, number in model["vocab"].items()})
        if model.get("unk_token") is not None:
            model["unk_token"] = SPECIAL_TOKENS[UNK]
    else:  # unigram: a list of pieces with their scores
        worst = min((score for _, score in model["vocab"]), default=0.0)
        own = [[name, worst] for name in SPECIAL_TOKENS]
        model["vocab"] = own + [[_renamed(name), score] for name, score in model["vocab"]]
        model["unk_id"] = None if model.get("unk_id") is None else UNK
    added = [
        {**token, "id": token["id"] + SHIFT, "content": _renamed(token["content"])} for token in data["added_tokens"]
    ]
    data["added_tokens"] = [_added(number, name) for number, name in enumerate(SPECIAL_TOKENS)] + added
    # Models that know whole words and pieces alike would read the names of our tokens in a text as these tokens.
    if model["type"] in ("Unigram", "WordLevel"):
        apart = [
            {"type": "Replace", "pattern": {"String": name}, "content": f"< {name[1:]}"} for name in SPECIAL_TOKENS
        ]
        before = [data["normalizer"]] if data.get("normalizer") else []
        data["normalizer"] = {"type": "Sequence", "normalizers": before + apart}
    data |= {"post_processor": None, "truncation": None, "padding": None}
    shifted = json.dumps(data, ensure_ascii=False)
    _check_ids(shifted, text, path)
    return shifted


def _own(vocabulary: dict[str, int]) -> dict[str, int]:
    return {name: number for number, name in enumerate(SPECIAL_TOKENS)} | vocabulary


def _renamed(name: str) -> str:
    """A model's own <s> beside ours."""
    return f"{name[:-1]}:model>" if name in SPECIAL_TOKENS else name


def _added(number: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **flags, "special": True}


def _check_ids(shifted: str, text: str, path: str) -> None:
    """The library gives ids of its own to tokens that it finds out of order: then they are not the model's."""
    ours = Tokenizer.from_str(shifted).get_vocab(with_added_tokens=True)
    theirs = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    wrong = [name for name, number in theirs.items() if ours.get(_renamed(name)) != number + SHIFT]
    if wrong or len(ours) != len(theirs) + SHIFT or max(ours.values()) != len(ours) - 1:
        raise ConfigError(f"the ids of the tokenizer of {path!r} have gaps, and cannot be kept", "tokenizer.path")
